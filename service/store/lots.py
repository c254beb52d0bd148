"""Lots: where tasks wait of which nobody may, or can, execute the type. They cost nothing there.

A lot is a sorted set for a type, a queue and a priority. A claim puts there what is of a paused type (move.lua); a
runner parks what is of a type that no runner has known for a while. Runners tell which types they know, again and
again: so everybody learns that a release has brought a type back, and what need not stay in its lot comes back.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from service.store import keys
from service.store.connection import Wire, in_each, rows, to_each
from service.store.keys import GROUP
from service.store.layout import OlderAtWork
from service.store.queues import Entry
from service.store.scripts import KNOWN, LOTS, PARK, UNPARK
from service.tasks import moments
from service.tasks.document import Task

PORTION: Final = 10_000
MICROSECONDS: Final = 1_000_000
ASK_SECONDS: Final = 10.0


class Lot(NamedTuple):
    type: str
    queue: str
    tasks: int
    unknown_since: str | None  # since when no runner has told that it knows the type; None while one does


class Lots:
    def __init__(
        self, wire: Wire, groups: Sequence[Sequence[int]], known_seconds: float, need_layout: Callable[[], None]
    ) -> None:
        """A type is known for so long after a runner has told it."""
        self._wire = wire
        self._groups = groups
        self._need_layout = need_layout
        self.known_seconds = known_seconds
        self._known = int(known_seconds * MICROSECONDS)
        self._ask_at = 0.0

    def tell(self, types: Sequence[str]) -> None:
        """A runner knows these types."""
        to_each(self._groups if types else (), lambda group: self._tell(group, types))

    def _tell(self, group: Sequence[int], types: Sequence[str]) -> None:
        self._wire.call(group[0], KNOWN.call(list(map(keys.types, group)), types))

    def park(self, consumer: str, entries: Sequence[tuple[Entry, Task]]) -> list[Entry]:
        """Sets aside queued tasks of a type that this runner does not know. Returns the entries that stay, as long as
        another runner may know it.
        """
        alike: dict[tuple[int, str, str, str], list[tuple[Entry, Task]]] = {}
        for entry, task in entries:
            alike.setdefault((entry.partition, entry.stream, task.type, keys.lot_name(task)), []).append((entry, task))
        return [entry for about, members in alike.items() for entry in self._park(consumer, *about, members)]

    def _park(
        self, consumer: str, partition: int, stream: str, task_type: str, lot: str, members: list[tuple[Entry, Task]]
    ) -> list[Entry]:
        entries = [entry for entry, _ in members]
        if not self._may_park(partition, task_type):
            return entries
        names = [stream, keys.types(partition), keys.lots(partition), keys.lot(partition, lot), keys.takes(partition)]
        arguments: list[Any] = [GROUP, consumer, task_type, lot, self._known, keys.base(partition)]
        for entry, task in members:
            arguments += (entry.text or b"", moments.microseconds(task.created_at), entry.id)
        [kept] = self._wire.call(partition, PARK.call([*names, *[entry.uid for entry in entries]], arguments))
        return [entries[place - 1] for place in kept]

    def _may_park(self, partition: int, task_type: str) -> bool:
        """Decided here so that no layout is raised for a type that is merely not known here; the script looks again."""
        [seconds, fraction], told = self._wire.call(partition, ("TIME",), ("ZSCORE", keys.types(partition), task_type))
        if told is not None and float(told) >= int(seconds) * MICROSECONDS + int(fraction) - self._known:
            return False
        return told is None or self._may_write()

    def _may_write(self) -> bool:
        """Not while an older release is at work, which could not find what stands in a lot. That is not asked each
        time.
        """
        if time.monotonic() < self._ask_at:
            return False
        try:
            self._need_layout()
        except OlderAtWork:
            self._ask_at = time.monotonic() + ASK_SECONDS
            return False
        return True

    def unpark(self, count: int = PORTION) -> int:
        """Brings back tasks whose type is known and not paused: so many of each group. Returns how many."""
        return sum(in_each(self._groups, lambda group: self._unpark(group, count)))

    def _unpark(self, group: Sequence[int], count: int) -> int:
        names = [of(partition) for partition in group for of in (keys.lots, keys.pauses, keys.types)]
        [back] = self._wire.call(group[0], UNPARK.call(names, (count, self._known, *map(keys.base, group))))
        return int(back)

    def now(self) -> list[Lot]:
        """All lots with their tasks, those of all partitions and priorities together."""
        sizes: dict[tuple[str, str], int] = {}
        told: dict[str, int] = {}
        known_since = 0
        for group in self._groups:
            names = [of(partition) for partition in group for of in (keys.lots, keys.types)]
            [[now, *found]] = self._wire.call(group[0], LOTS.call(names, [keys.lot(each, "") for each in group]))
            known_since = now - self._known
            for name, size, last in rows(found, 3):
                task_type, queue, _ = name.decode().split(":")
                sizes[task_type, queue] = sizes.get((task_type, queue), 0) + size
                told[task_type] = max(told.get(task_type, 0), int(float(last or 0)))
        return [
            Lot(each, queue, size, moments.stamp_exactly(told[each]) if told[each] < known_since else None)
            for (each, queue), size in sorted(sizes.items())
            if size
        ]


def stuck(lots: Iterable[Lot]) -> list[Lot]:
    return [lot for lot in lots if lot.unknown_since is not None]
