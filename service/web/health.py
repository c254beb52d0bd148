"""GET /health/live and /health/ready; neither asks for a token."""

from typing import Final

from flask import Blueprint

from service.errors import StoreUnavailable
from service.store import Store
from service.web import answers
from service.web.answers import Answer

NAME: Final = "health"


def blueprint(store: Store) -> Blueprint:
    calls = Blueprint(NAME, __name__, url_prefix="/health")

    def live() -> Answer:
        return answers.json({"status": "live"})

    def ready() -> Answer:
        try:
            store.check()
        except StoreUnavailable as error:
            raise answers.unavailable(error, failing={"redis": str(error)}) from error
        return answers.json({"status": "ready"})

    calls.add_url_rule("/live", view_func=live)
    calls.add_url_rule("/ready", view_func=ready)
    return calls
