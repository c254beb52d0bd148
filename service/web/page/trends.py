"""What became of tasks over the time, as charts; and in figures for each queue and type."""

import time
from collections.abc import Iterable, Sequence
from typing import Any, Final, NamedTuple

from service.store import Store, tally
from service.store.history import COARSE, DAY, FINE, HOUR, HOURS, MINUTES, OF_QUEUE, Scale
from service.tasks import moments
from service.web.page.charts import SECONDS, Chart, Curve, Number
from service.web.page.remembered import Remembered

MICROSECONDS: Final = 1_000_000
MINUTE: Final = 60
YOUNGEST_SECONDS: Final = 15  # before that, a slot that has just begun says little
DEPTH, RUNNING, _, OLDEST = range(4)  # places in a gauge of a queue


class Span(NamedTuple):
    """How far back charts go, in steps of how many seconds; and for how many seconds they are remembered."""

    name: str
    seconds: int
    step: int
    counts: Scale
    gauges: Scale
    remembered: float


SPANS: Final = {
    "1h": Span("an hour", HOUR, MINUTE, MINUTES, FINE, 5.0),
    "2d": Span("two days", 2 * DAY, HOUR, HOURS, COARSE, 60.0),
    "31d": Span("a month", 31 * DAY, 6 * HOUR, HOURS, COARSE, 300.0),
}
USUAL: Final = "1h"


class Figures(NamedTuple):
    """What became of attempts since a moment."""

    succeeded: int
    failed: int
    retried: int
    a_minute: float
    median: Number
    p95: Number


class SinceThen(NamedTuple):
    """The figures of each queue and each type, since a moment in seconds."""

    since: int
    queues: dict[str, Figures]
    types: dict[str, Figures]


class Trends:
    def __init__(self, store: Store) -> None:
        self._history = store.history
        self.figures = Remembered(self._figures, 5.0)

    def charts(self, name: str) -> list[Chart]:
        span, now = SPANS[name], time.time()
        first = (int(now) - span.seconds) // span.step + 1
        times = [slot * span.step for slot in range(first, int(now) // span.step + 1)]
        ends = [min(now, at + span.step) for at in times]
        minutes = [max(end - at, YOUNGEST_SECONDS) / MINUTE for at, end in zip(times, ends, strict=True)]
        counts = self._counts(span, times)
        gauges = self._gauges(span, times)
        marks = self._marks(times[0], int(now))

        def chart(name: str, title: str, unit: str, *curves: Curve) -> Chart:
            return Chart(name, title, unit, times, curves, marks)

        def rate(end: str) -> list[Number]:
            place = tally.ENDS.index(end)
            return [each[place] / length for each, length in zip(counts, minutes, strict=True)]

        def took(which: str, share: float) -> list[Number]:
            return [tally.quantile(tally.histogram(each, which), share) for each in counts]

        def measured(place: int) -> list[Number]:
            return [None if each is None else each[place] for each in gauges]

        return [
            chart("succeeded", "Succeeded, a minute", "", Curve("succeeded", "good", rate("succeeded"))),
            chart(
                "failures", "Failed, a minute", "",
                Curve("failed", "bad", rate("failed")), Curve("tried again", "wait", rate("retried")),
            ),
            chart(
                "run", "Time to run", SECONDS,
                Curve("median", "busy", took("run", 0.5)), Curve("95%", "plan", took("run", 0.95)),
            ),
            chart(
                "wait", "Time to wait", SECONDS,
                Curve("median", "busy", took("wait", 0.5)), Curve("95%", "plan", took("wait", 0.95)),
            ),
            chart(
                "depth", "Tasks that wait and run", "",
                Curve("waiting", "wait", measured(DEPTH)), Curve("running", "busy", measured(RUNNING)),
            ),
            chart("oldest", "The oldest has waited", SECONDS, Curve("oldest", "bad", measured(OLDEST))),
        ]  # fmt: skip

    def _counts(self, span: Span, times: Sequence[int]) -> list[list[int]]:
        scale = span.counts
        last = (times[-1] + span.step) // scale.seconds - 1
        found = self._history.counts(tally.ALL, scale, times[0] // scale.seconds, last)
        return [_summed(each) for each in _in_parts(found, span.step // scale.seconds)]

    def _gauges(self, span: Span, times: Sequence[int]) -> list[list[int] | None]:
        """Over all queues: the sums, and the oldest of all."""
        scale = span.gauges
        first, last = times[0] // scale.seconds, (times[-1] + span.step) // scale.seconds - 1
        names = [name for name in self._history.series()[1] if name.startswith(OF_QUEUE)]
        queues = [self._history.gauges(name, scale, first, last) for name in names]
        together = [_over_queues([each for each in moment if each]) for moment in zip(*queues, strict=True)]
        if not together:
            return [None] * len(times)
        return [_highest([each for each in part if each]) for part in _in_parts(together, span.step // scale.seconds)]

    def _marks(self, since: int, until: int) -> list[tuple[int, str]]:
        found = self._history.marks(since * MICROSECONDS, until * MICROSECONDS)
        return [(moments.microseconds(mark["at"]) // MICROSECONDS, _named(mark)) for mark in found]

    def _figures(self) -> SinceThen:
        now = time.time()
        last = int(now) // HOUR
        queues: dict[str, list[list[int]]] = {}
        types: dict[str, list[list[int]]] = {}
        for series in self._history.series()[0]:
            queue, slash, kind = series.partition("/")
            if slash:
                found = _summed(self._history.counts(series, HOURS, last - 1, last))
                queues.setdefault(queue, []).append(found)
                types.setdefault(kind, []).append(found)
        since = (last - 1) * HOUR
        minutes = (now - since) / MINUTE
        return SinceThen(since, _of_each(queues, minutes), _of_each(types, minutes))


def _of_each(found: dict[str, list[list[int]]], minutes: float) -> dict[str, Figures]:
    return {name: _in_figures(_summed(each), minutes) for name, each in found.items()}


def _in_figures(numbers: Sequence[int], minutes: float) -> Figures:
    succeeded, failed, retried, _ = numbers[: len(tally.ENDS)]
    run = tally.histogram(numbers, "run")
    rate = (succeeded + failed + retried) / minutes
    return Figures(succeeded, failed, retried, rate, tally.quantile(run, 0.5), tally.quantile(run, 0.95))


def _summed(records: Iterable[Sequence[int]]) -> list[int]:
    return [sum(column) for column in zip(*records, strict=True)]


def _in_parts(found: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [found[begin : begin + size] for begin in range(0, len(found), size)]


def _over_queues(measured: Sequence[Sequence[int]]) -> list[int] | None:
    if not measured:
        return None
    sums = _summed(measured)
    return [*sums[:OLDEST], max(each[OLDEST] for each in measured)]


def _highest(measured: Sequence[Sequence[int]]) -> list[int] | None:
    return [max(column) for column in zip(*measured, strict=True)] if measured else None


def _named(mark: dict[str, Any]) -> str:
    return " ".join(str(mark[name]) for name in ("what", "watcher", "release") if mark.get(name))
