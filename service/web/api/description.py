"""GET /openapi.json. Few ask for it: what it is made of is loaded when somebody does."""

from collections.abc import Sequence
from functools import cache
from typing import Final

from flask import Blueprint

from service.tasks.registry import Registry
from service.web import answers
from service.web.answers import Answer

KEPT: Final = ("Cache-Control", "max-age=60")  # a release may change it; no `public`, which lets in what had a token


def blueprint(registry: Registry, queues: Sequence[str]) -> Blueprint:
    calls = Blueprint("openapi", __name__)

    @cache
    def description() -> bytes:
        from service.web.api import openapi

        return answers.json(openapi.describe([task_type.name for task_type in registry], queues)).get_data()

    calls.add_url_rule("/openapi.json", "describe", lambda: Answer(description(), headers=[KEPT]))
    return calls
