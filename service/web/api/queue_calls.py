"""GET /queues, and the calls that pause and resume a queue."""

from collections.abc import Sequence
from typing import Any

from flask import Blueprint

from service.observe.audit import AuditLog
from service.store import QUEUE, Backlog, Pause, Store
from service.web import answers
from service.web.answers import Answer
from service.web.api.pausing import NewPause, Pausing, shown
from service.web.problem import not_found


class QueueCalls:
    def __init__(self, *, store: Store, queues: Sequence[str], audit: AuditLog | None) -> None:
        self._store = store
        self._queues = queues
        self._pausing = Pausing(store, audit, QUEUE)

    def blueprint(self) -> Blueprint:
        calls = Blueprint("queues", __name__, url_prefix="/queues")
        calls.add_url_rule("", view_func=self.list)
        calls.add_url_rule("/<name>/pause", view_func=self.pause, methods=["POST"])
        calls.add_url_rule("/<name>/resume", view_func=self.resume, methods=["POST"])
        return calls

    def list(self) -> Answer:
        return answers.json({"queues": self._all()})

    def pause(self, name: str) -> Answer:
        self.put(name, self._pausing.asked())
        return self._one(name)

    def resume(self, name: str) -> Answer:
        self.lift(name)
        return self._one(name)

    def put(self, name: str, asked: NewPause) -> None:
        self._check(name)
        self._pausing.pause(name, asked)

    def lift(self, name: str) -> None:
        self._check(name)
        self._pausing.resume(name)

    def _check(self, name: str) -> None:
        """Its name is no slip: it is served, or was."""
        if name not in self._queues and name not in {*self._store.backlog(()), *self._paused()}:
            raise not_found(f"there is no queue of that name; these are served: {', '.join(self._queues)}")

    def _one(self, name: str) -> Answer:
        [found] = [queue for queue in self._all(name) if queue["queue"] == name]
        return answers.json(found)

    def _all(self, *more: str) -> Sequence[dict[str, Any]]:
        """Those that are served, in their order; then any other that has tasks, or is paused."""
        backlog, paused = self._store.backlog(()), self._paused()
        names = dict.fromkeys((*self._queues, *more, *sorted({*backlog, *paused})))
        return [_described(name, backlog.get(name, Backlog()), paused.get(name)) for name in names]

    def _paused(self) -> dict[str, Pause]:
        return self._store.pauses.now().queues


def _described(name: str, backlog: Backlog, pause: Pause | None) -> dict[str, Any]:
    return {
        "queue": name,
        "waiting": backlog.depth,
        "running": backlog.running,
        "scheduled": backlog.scheduled,
        "oldest": round(backlog.oldest, 3) if backlog.depth else None,
        "paused": shown(pause),
    }
