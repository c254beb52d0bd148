"""The queues: what waits, runs and is scheduled in each."""

from collections.abc import Sequence

from flask import Blueprint, Response

from service.store import Store
from service.web.page.frame import Frame
from service.web.page.remembered import Remembered
from service.web.page.trends import Trends


class QueueList:
    def __init__(self, frame: Frame, store: Store, queues: Sequence[str], trends: Trends) -> None:
        self._frame = frame
        self._queues = queues
        self._figures = trends.figures
        self._backlog = Remembered(lambda: store.backlog(queues))

    def add_to(self, pages: Blueprint) -> None:
        pages.add_url_rule("/ui/queues", "queues", self.show)

    def show(self) -> Response:
        backlog = self._backlog.get()
        return self._frame.page("queues.html", backlog=backlog, served=self._queues, figures=self._figures.get())
