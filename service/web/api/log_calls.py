"""The calls below a task that tell how it fares: its log, its attempts, its events."""

import re
from typing import Any, Final

import msgspec
from flask import Blueprint, request
from werkzeug.datastructures import MultiDict

from service.store import Store
from service.tasks.document import Task
from service.tasks.lines import MOST_LINES
from service.web import answers
from service.web.answers import Answer
from service.web.api import listing
from service.web.api.log_lines import plain, shown
from service.web.api.task_events import Events
from service.web.api.uids import checked, missing
from service.web.masking import Masking
from service.web.problem import wrong

CURSOR: Final = re.compile(r"[0-9]{1,15}")
PLAIN: Final = "text/plain; charset=utf-8"
_KINDS: Final = ("application/json", "text/plain")


class LogCalls:
    def __init__(self, *, store: Store, masking: Masking, events: Events) -> None:
        self._store = store
        self._masking = masking
        self._events = events

    def blueprint(self) -> Blueprint:
        calls = Blueprint("logs", __name__, url_prefix="/tasks/<uid>")
        calls.add_url_rule("/log", view_func=self.log)
        calls.add_url_rule("/attempts", view_func=self.attempts)
        calls.add_url_rule("/events", view_func=self.events)
        return calls

    def log(self, uid: str) -> Answer:
        after, limit = _query(request.args)
        if self._store.read(checked(uid)) is None:
            raise missing(uid)
        logged = self._store.logbook.read(uid, after, limit)
        following = str(logged.lines[-1].number if logged.lines else after)
        if request.accept_mimetypes.best_match(_KINDS) == _KINDS[1]:
            link = f'</tasks/{uid}/log?after={following}>; rel="next"'
            return Answer(plain(logged), 200, [("Vary", "Accept"), ("Link", link)], PLAIN)
        return answers.json(shown(logged) | {"next": following}, headers=[("Vary", "Accept")])

    def attempts(self, uid: str) -> Answer:
        listing.check_names(request.args, ())
        found, attempts = self._store.logbook.attempts(checked(uid))
        if found is None:
            raise missing(uid)
        return answers.json({"attempts": [msgspec.structs.asdict(attempt) for attempt in attempts]})

    def events(self, uid: str) -> Answer:
        listing.check_names(request.args, ())
        environ = request.environ
        if self._store.read(checked(uid)) is None:
            raise missing(uid)
        return self._events.answer(uid, environ, lambda task: self._shown(task, environ))

    def _shown(self, task: Task, environ: dict[str, Any]) -> dict[str, Any]:
        self._store.limits.tell([task], self._store.partition)
        return self._masking.document(task, environ)


def _query(parameters: MultiDict[str, str]) -> tuple[int, int]:
    listing.check_names(parameters, ("after", "limit"))
    after = parameters.get("after", "0")
    if not CURSOR.fullmatch(after):
        raise wrong("after: take `next` of the answer before", field="after")
    return int(after), _limit(parameters.get("limit"))


def _limit(text: str | None) -> int:
    if text is None:
        return MOST_LINES
    if not listing.NUMBER.fullmatch(text) or not 1 <= int(text) <= MOST_LINES:
        raise wrong(f"limit: a number from 1 to {MOST_LINES}", field="limit")
    return int(text)
