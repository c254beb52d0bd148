"""GET /health/live and /health/ready; neither asks for a token."""

from pathlib import Path
from typing import Final

from flask import Blueprint

from service.errors import InvalidToken, StoreUnavailable
from service.store import Store
from service.web import answers
from service.web.answers import Answer
from service.web.auth import Tokens

NAME: Final = "health"


def blueprint(store: Store, tokens: Tokens | None, throttled: Path | None) -> Blueprint:
    """In the folder `throttled` the supervisor names what crashes again and again."""
    calls = Blueprint(NAME, __name__, url_prefix="/health")

    def live() -> Answer:
        return answers.json({"status": "live"})

    def ready() -> Answer:
        part = "redis"
        try:
            store.check()
            part = "callers"  # the scrubber would remove a member named "tokens"
            if tokens is not None:
                tokens.check()
        except (StoreUnavailable, InvalidToken) as error:
            raise answers.unavailable(error, failing={part: str(error)} | _notices(throttled)) from error
        notices = _notices(throttled)
        return answers.json({"status": "ready"} | ({"failing": notices} if notices else {}))

    calls.add_url_rule("/live", view_func=live)
    calls.add_url_rule("/ready", view_func=ready)
    return calls


def _notices(folder: Path | None) -> dict[str, str]:
    try:
        return {notice.name: notice.read_text() for notice in folder.iterdir()} if folder else {}
    except OSError:
        return {}  # there is none, or one has just gone
