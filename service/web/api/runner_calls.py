"""GET /runners: who executes what."""

from flask import Blueprint

from service.store import Store
from service.web import answers
from service.web.answers import Answer


def blueprint(store: Store) -> Blueprint:
    calls = Blueprint("runners", __name__)

    def runners() -> Answer:
        return answers.json({"runners": store.roster.at_work()})

    calls.add_url_rule("/runners", view_func=runners)
    return calls
