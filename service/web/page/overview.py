"""The first page: is it well?"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from flask import Blueprint, Response, request
from markupsafe import Markup

from service.store import AtWork, Backlog, Filter, Store
from service.tasks.document import FAILED, RUNNING, Task
from service.web.api.health import Notices
from service.web.page.frame import Frame
from service.web.page.remembered import Remembered
from service.web.page.trends import SPANS, USUAL, Trends

ROWS: Final = 10


class Present(NamedTuple):
    """What is going on at a moment."""

    backlog: dict[str, Backlog]
    running: list[Task]
    failed: list[Task]
    notices: dict[str, str]
    runners: list[AtWork]

    @property
    def busy(self) -> str:
        """How many lanes are."""
        lanes = sum(runner.threads for runner in self.runners)
        return f"{sum(len(runner.executing) for runner in self.runners)} of {lanes}"

    @property
    def oldest(self) -> float:
        return max((queue.oldest for queue in self.backlog.values()), default=0.0)

    def total(self, field: str) -> int:
        return sum(getattr(queue, field) for queue in self.backlog.values())


class Overview:
    def __init__(self, frame: Frame, store: Store, queues: Sequence[str], notices: Notices, trends: Trends) -> None:
        self._frame = frame
        self._store = store
        self._queues = queues
        self._notices = notices
        self._trends = trends
        self._charts = {
            name: Remembered(lambda name=name: self._drawn(name), span.remembered)  # type: ignore[misc]
            for name, span in SPANS.items()
        }
        self._now = Remembered(self._look)

    def add_to(self, pages: Blueprint) -> None:
        pages.add_url_rule("/ui", "overview", self.show)

    def show(self) -> Response:
        asked = request.args.get("span", USUAL)
        span = asked if asked in SPANS else USUAL
        charts = self._charts[span].get()
        return self._frame.page("overview.html", current=self._now.get(), charts=charts, spans=SPANS, span=span)

    def _drawn(self, span: str) -> Markup:
        """To write the charts and their tables takes longer than all else on the page."""
        charts = [chart for chart in self._trends.charts(span) if not chart.is_empty]
        return self._frame.part("charts.html", charts=charts)

    def _look(self) -> Present:
        return Present(
            self._store.backlog(self._queues),
            self._newest(RUNNING),
            self._newest(FAILED),
            self._notices(),
            self._store.roster.at_work(),
        )

    def _newest(self, status: str) -> list[Task]:
        return self._store.index.page(limit=ROWS, only=Filter(status=(status,)))[0]
