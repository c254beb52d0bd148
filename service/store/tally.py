"""What became of attempts, counted in the memory of a process. Pure but for a lock; history.py writes it to Redis.

A count is a list of numbers: how many attempts ended in which way, the sums of the times that they ran and waited, and
two histograms of these times. Times are in microseconds.
"""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from service.tasks import moments
from service.tasks.document import CANCELLED, FAILED, SCHEDULED, SUCCEEDED, Task

ENDS: Final = ("succeeded", "failed", "retried", "cancelled")
TIMES: Final = ("run", "wait")
SHORTEST: Final = 50
FACTOR: Final = 1.8
BOUNDS: Final = tuple(round(SHORTEST * FACTOR**place) for place in range(35))  # from 0.05 ms to 6.6 hours
BUCKETS: Final = len(BOUNDS) + 1  # the last one is for what took longer

SUMS: Final = len(ENDS)
HISTOGRAMS: Final = SUMS + len(TIMES)
LENGTH: Final = HISTOGRAMS + len(TIMES) * BUCKETS

ALL: Final = "all"  # the series over all queues and types
OTHER: Final = "other"  # that of all for which there was no room

_END: Final = {SUCCEEDED: 0, FAILED: 1, SCHEDULED: 2, CANCELLED: 3}


class Counted(NamedTuple):
    """What was counted for a series within a minute."""

    minute: int  # since the epoch
    series: str
    numbers: list[int]


def series(queue: str, type: str) -> str:
    return f"{queue}/{type}"


class _Count:
    """Of a series within a minute: how often it ended in each way, ran for a time (seconds), waited (milliseconds)."""

    def __init__(self) -> None:
        self.ends = [0] * len(ENDS)
        self.ran: Counter[float | None] = Counter()
        self.waited: Counter[int] = Counter()

    def numbers(self) -> list[int]:
        numbers = self.ends + [0] * (LENGTH - len(ENDS))
        for seconds, times in self.ran.items():
            if seconds is not None:
                _add(numbers, 0, int(seconds * 1_000_000), times)
        for milliseconds, times in self.waited.items():
            _add(numbers, 1, max(0, 1000 * milliseconds), times)
        return numbers


class Tally:
    """What is short comes in batches of one kind, and often takes the same time: so values are counted first, and put
    into their buckets when they are taken. It costs half a microsecond a task.
    """

    def __init__(self) -> None:
        self._counts: dict[tuple[int, str, str], _Count] = {}
        self._lock = threading.Lock()

    def outcomes(self, now: float, settled: Sequence[Task], entries: Sequence[str]) -> None:
        """Attempts that have ended, and cancelled tasks; `entries` are the ids of their queue entries, or empty."""
        if not settled:
            return
        kinds = [(task.queue, task.type, task.status) for task in settled]
        with self._lock:
            if kinds.count(kinds[0]) == len(kinds):
                self._count(int(now) // 60, kinds[0], settled, entries)
            else:
                for kind, task, entry in zip(kinds, settled, entries, strict=True):
                    self._count(int(now) // 60, kind, [task], [entry])

    def _count(self, minute: int, kind: tuple[str, str, str], settled: Sequence[Task], entries: Sequence[str]) -> None:
        queue, task_type, status = kind
        if (end := _END.get(status)) is None:
            return  # it was handed back: the attempt has no outcome
        count = self._counts.get((minute, queue, task_type))
        if count is None:
            count = self._counts[minute, queue, task_type] = _Count()
        count.ends[end] += len(settled)
        if status != CANCELLED:
            count.ran.update([task.duration for task in settled if task.started_at])
            count.waited.update(_waited(settled, entries))

    def take(self) -> list[Counted]:
        """What was counted since the last time, with the sum of each minute first."""
        with self._lock:
            counts, self._counts = self._counts, {}
        found = [Counted(minute, series(*kind), each.numbers()) for (minute, *kind), each in counts.items()]
        sums: dict[int, list[int]] = {}
        for minute, _, numbers in found:
            sums[minute] = added(sums.get(minute, [0] * LENGTH), numbers)
        return [Counted(minute, ALL, numbers) for minute, numbers in sums.items()] + found


def _waited(settled: Sequence[Task], entries: Sequence[str]) -> list[int]:
    """In milliseconds: an entry's id holds the time at which it was queued, by Redis's clock."""
    second, whole, waited = "", 0, []
    for task, entry in zip(settled, entries, strict=True):
        if entry and (started := task.started_at) and task.duration is not None:
            if started[:19] != second:
                second, whole = started[:19], moments.microseconds(started) // 1_000_000 * 1000
            waited.append(whole + int(started[20:23]) - int(entry.partition("-")[0]))
    return waited


def _add(numbers: list[int], time: int, microseconds: int, times: int) -> None:
    numbers[SUMS + time] += microseconds * times
    numbers[HISTOGRAMS + time * BUCKETS + bisect_left(BOUNDS, microseconds)] += times


def added(one: Sequence[int], other: Sequence[int]) -> list[int]:
    return [mine + theirs for mine, theirs in zip(one, other, strict=True)]


def histogram(numbers: Sequence[int], time: str) -> Sequence[int]:
    begin = HISTOGRAMS + TIMES.index(time) * BUCKETS
    return numbers[begin : begin + BUCKETS]


def total(numbers: Sequence[int], time: str) -> int:
    """The sum of all such times, in microseconds."""
    return numbers[SUMS + TIMES.index(time)]


def quantile(buckets: Sequence[int], share: float) -> float | None:
    """The time below which that share of all lies, in seconds; None of nothing. Within a bucket it is estimated."""
    wanted, below = sum(buckets) * share, 0
    if not wanted:
        return None
    for place, number in enumerate(buckets):
        if number and below + number >= wanted:
            low = BOUNDS[place - 1] if place else 0
            high = BOUNDS[place] if place < len(BOUNDS) else low
            return (low + (high - low) * (wanted - below) / number) / 1_000_000
        below += number
    return BOUNDS[-1] / 1_000_000
