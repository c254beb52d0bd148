"""GET /health/live and /health/ready; neither asks for a token."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from flask import Blueprint, request

from service.errors import SandboxError
from service.store import Store
from service.web import answers
from service.web.answers import Answer
from service.web.auth import Tokens

NAME: Final = "health"
RUNNERS: Final = "runners"
CRASHES: Final = "crashes again and again; log/circus.log says more, if the disk has room"

Count = Callable[[], int]
Notices = Callable[[], dict[str, str]]


def blueprint(store: Store, tokens: Tokens | None, throttled: Path | None, runners: Count | None) -> Blueprint:
    """`runners` tells how many runners are alive. In the folder `throttled` the supervisor names what crashes again and
    again.
    """
    calls = Blueprint(NAME, __name__, url_prefix="/health")

    def live() -> Answer:
        return answers.json({"status": "live"})

    def ready() -> Answer:
        found: dict[str, Any] = {}
        part = "redis"
        try:
            store.check()
            store.check_room()
            part = "callers"  # the scrubber would remove a member named "tokens"
            if tokens is not None:
                tokens.check()
            part = RUNNERS
            if runners is not None and request.args.get("exclude") != RUNNERS:
                found[RUNNERS] = _some(runners())
        except SandboxError as error:
            failing = {part: answers.for_clients(error)} | notices(throttled)
            raise answers.unavailable(error, failing=failing) from error
        if failing := notices(throttled):
            found["failing"] = failing
        return answers.json({"status": "ready"} | found)

    calls.add_url_rule("/live", view_func=live)
    calls.add_url_rule("/ready", view_func=ready)
    return calls


def _some(count: int) -> int:
    if not count:
        raise SandboxError("no runner is at work on this host")
    return count


def notices(folder: Path | None) -> dict[str, str]:
    """What crashes again and again, or is held up, and what is said of it. On a full disk it may be empty."""
    try:
        return {notice.name: notice.read_text() or CRASHES for notice in folder.iterdir()} if folder else {}
    except OSError:
        return {}  # there is none, or one has just gone
