"""GET /metrics/history: what became of tasks, how long the queues were, and what happened to the service meanwhile.

GET /metrics is the present of it, for Prometheus (exposition.py).
"""

import re
import time
from collections.abc import Sequence
from typing import Any, Final

from flask import Blueprint, request

from service.store import Store, stuck, tally
from service.store.history import (
    COARSE,
    DAY,
    FINE,
    HOUR,
    HOURS,
    HOURS_KEPT,
    MINUTES,
    MINUTES_KEPT,
    OF_QUEUE,
    QUEUE_GAUGES,
    RUNNER_GAUGES,
    RUNNERS,
    Scale,
)
from service.tasks import moments
from service.web import answers
from service.web.answers import Answer
from service.web.api import exposition, listing
from service.web.problem import wrong

SERIES: Final = re.compile(r"[A-Za-z0-9._/:-]{1,210}")
NAMES: Final = ("series", "from", "to")
USUAL_SPAN: Final = 3 * HOUR
BY_MINUTE: Final = DAY // 2  # the longest span that is answered minute by minute
MICROSECONDS: Final = 1_000_000


class HistoryCalls:
    def __init__(self, store: Store, queues: Sequence[str]) -> None:
        self._store = store
        self._history = store.history
        self._queues = queues

    def blueprint(self) -> Blueprint:
        calls = Blueprint("history", __name__)
        calls.add_url_rule("/metrics", view_func=self.now)
        calls.add_url_rule("/metrics/history", view_func=self.history)
        return calls

    def now(self) -> Answer:
        text = exposition.text(
            self._history.in_all(),
            self._store.backlog(self._queues),
            self._store.roster.at_work(),
            self._store.limits.waiting(),
            self._store.pauses.now().types,
            stuck(self._store.lots.now()),
            [found.schedule for found in self._store.schedules.all() if found.schedule is not None],
        )
        return Answer(text.encode(), content_type=exposition.CONTENT_TYPE)

    def history(self) -> Answer:
        query = request.args
        listing.check_names(query, NAMES)
        if "series" not in query:
            counts, gauges = self._history.series()
            return answers.json({"counts": counts, "gauges": gauges})
        series = query["series"]
        if not SERIES.fullmatch(series):
            raise wrong("series: GET /metrics/history without it names them", field="series")
        since, until = _span(query.get("from"), query.get("to"))
        is_fine = until - since <= BY_MINUTE and since >= time.time() - MINUTES_KEPT
        read = self._gauges if series == RUNNERS or series.startswith(OF_QUEUE) else self._counts
        told = read(series, is_fine, since, until)
        marks = self._history.marks(since * MICROSECONDS, until * MICROSECONDS)
        resolution = "minute" if is_fine else "hour"
        span = {"from": _stamp(since), "to": _stamp(until)}
        return answers.json({"series": series, "resolution": resolution, **span, **told, "marks": marks})

    def _counts(self, series: str, is_fine: bool, since: int, until: int) -> dict[str, Any]:
        scale = MINUTES if is_fine else HOURS
        first = since // scale.seconds
        last = max(first, (until - 1) // scale.seconds)
        found = self._history.counts(series, scale, first, last)
        summed = [sum(column) for column in zip(*found, strict=True)]
        points = [{"at": _stamp((first + place) * scale.seconds)} | _said(each) for place, each in enumerate(found)]
        return {"summary": _said(summed), "points": points}

    def _gauges(self, series: str, is_fine: bool, since: int, until: int) -> dict[str, Any]:
        """The highest in each minute, or hour."""
        names = RUNNER_GAUGES if series == RUNNERS else QUEUE_GAUGES
        step = MINUTES.seconds if is_fine else HOUR
        scale = FINE if is_fine else COARSE
        first = since // step * step
        last = max(first, (until - 1) // step * step) + step - 1
        found = self._history.gauges(series, scale, first // scale.seconds, last // scale.seconds)
        points = [
            {"at": _stamp(first + place * step), **_highest(names, found, place * step // scale.seconds, step, scale)}
            for place in range((last - first) // step + 1)
        ]
        return {"points": points}


def _highest(
    names: Sequence[str], found: Sequence[list[int] | None], begin: int, step: int, scale: Scale
) -> dict[str, int | None]:
    measured = [each for each in found[begin : begin + step // scale.seconds] if each is not None]
    if not measured:
        return dict.fromkeys(names)
    return dict(zip(names, map(max, *measured) if len(measured) > 1 else measured[0], strict=True))


def _said(numbers: Sequence[int]) -> dict[str, Any]:
    return dict(zip(tally.ENDS, numbers, strict=False)) | {name: _times(numbers, name) for name in tally.TIMES}


def _times(numbers: Sequence[int], name: str) -> dict[str, Any]:
    """In seconds. The mean is exact, the others are estimated within their bucket."""
    buckets = tally.histogram(numbers, name)
    count = sum(buckets)
    return {
        "count": count,
        "mean": tally.total(numbers, name) / MICROSECONDS / count if count else None,
        "median": tally.quantile(buckets, 0.5),
        "p95": tally.quantile(buckets, 0.95),
    }


def _span(begin: str | None, end: str | None) -> tuple[int, int]:
    now = int(time.time())
    until = min(now, _seconds(end, "to")) if end is not None else now
    since = _seconds(begin, "from") if begin is not None else until - USUAL_SPAN
    if since > until:
        raise wrong("from: it lies after `to`, or in the future", field="from")
    oldest = now - HOURS_KEPT
    return max(since, oldest), max(until, oldest)


def _seconds(text: str, field: str) -> int:
    return moments.microseconds(listing.moment(text, field)) // MICROSECONDS


def _stamp(second: int) -> str:
    return moments.stamp_exactly(second * MICROSECONDS)
