"""GET /types: what tasks there are; and the calls that pause and resume a type."""

from collections.abc import Sequence
from typing import Any

from flask import Blueprint

from service.observe.audit import AuditLog
from service.store import TYPE, Pause, Store, stuck
from service.tasks.registry import Registry
from service.web import answers
from service.web.answers import Answer
from service.web.api.pausing import NewPause, Pausing, shown
from service.web.problem import not_found


class TypeCalls:
    def __init__(self, *, store: Store, registry: Registry, audit: AuditLog | None) -> None:
        self._store = store
        self._types = {task_type.name: task_type.describe() for task_type in registry}
        self._pausing = Pausing(store, audit, TYPE)

    def blueprint(self) -> Blueprint:
        calls = Blueprint("types", __name__, url_prefix="/types")
        calls.add_url_rule("", view_func=self.list)
        calls.add_url_rule("/<name>/pause", view_func=self.pause, methods=["POST"])
        calls.add_url_rule("/<name>/resume", view_func=self.resume, methods=["POST"])
        return calls

    def list(self) -> Answer:
        paused = self._store.pauses.now().types
        types = [described | {"paused": shown(paused.get(name))} for name, described in self._types.items()]
        return answers.json({"types": types, "stuck": self._stuck()})

    def _stuck(self) -> Sequence[dict[str, Any]]:
        """Types that no runner knows any more, with the tasks that wait for one."""
        return [
            {"type": lot.type, "queue": lot.queue, "tasks": lot.tasks, "since": lot.unknown_since}
            for lot in stuck(self._store.lots.now())
        ]

    def pause(self, name: str) -> Answer:
        return self._one(name, self.put(name, self._pausing.asked()))

    def resume(self, name: str) -> Answer:
        self.lift(name)
        return self._one(name, None)

    def put(self, name: str, asked: NewPause) -> Pause:
        self._check(name)
        return self._pausing.pause(name, asked)

    def lift(self, name: str) -> None:
        self._check(name)
        self._pausing.resume(name)

    def _check(self, name: str) -> None:
        """One that has left this release may still be paused."""
        if name not in self._types and name not in self._store.pauses.now().types:
            raise not_found("there is no type of that name; GET /types lists what there is")

    def _one(self, name: str, pause: Pause | None) -> Answer:
        return answers.json(self._types.get(name, {"type": name}) | {"paused": shown(pause)})
