"""The first page: is it well?"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from flask import Blueprint, Response

from service.store import Backlog, Filter, Store
from service.tasks.document import FAILED, RUNNING, Task
from service.web.api.health import Notices
from service.web.page.frame import Frame
from service.web.page.remembered import Remembered

ROWS: Final = 10


class Now(NamedTuple):
    """What is going on at a moment."""

    backlog: dict[str, Backlog]
    running: list[Task]
    failed: list[Task]
    notices: dict[str, str]

    @property
    def oldest(self) -> float:
        return max((queue.oldest for queue in self.backlog.values()), default=0.0)

    def total(self, field: str) -> int:
        return sum(getattr(queue, field) for queue in self.backlog.values())


class Overview:
    def __init__(self, frame: Frame, store: Store, queues: Sequence[str], notices: Notices) -> None:
        self._frame = frame
        self._store = store
        self._queues = queues
        self._notices = notices
        self._now = Remembered(self._look)

    def add_to(self, pages: Blueprint) -> None:
        pages.add_url_rule("/ui", "overview", self.show)

    def show(self) -> Response:
        return self._frame.page("overview.html", **self._found())

    def _found(self) -> dict[str, Any]:
        return {"current": self._now.get()}

    def _look(self) -> Now:
        return Now(
            self._store.backlog(self._queues),
            self._newest(RUNNING),
            self._newest(FAILED),
            self._notices(),
        )

    def _newest(self, status: str) -> list[Task]:
        return self._store.index.page(limit=ROWS, only=Filter(status=(status,)))[0]
