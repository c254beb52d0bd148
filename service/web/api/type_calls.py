"""GET /types: what tasks there are."""

from flask import Blueprint

from service.tasks.registry import Registry
from service.web import answers
from service.web.answers import Answer


def blueprint(registry: Registry) -> Blueprint:
    calls = Blueprint("types", __name__)
    listing = answers.json({"types": [task_type.describe() for task_type in registry]}).get_data()
    calls.add_url_rule("/types", "list", lambda: Answer(listing))
    return calls
