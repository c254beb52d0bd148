"""Pauses: a queue whose tasks are not given out, a type whose tasks are not claimed.

A pause stands in each partition. Where all partitions lie on one server they change at one moment; on a Cluster one
after the other, all that answer, and a call that fails is sent again. Who looks sees a pause as soon as one partition
has it.

What is queued in a paused queue stays in its streams, which the fetch passes over. What is of a paused type is met by
the claim, which sets it aside in a lot (lots.py).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from service.store import keys
from service.store.connection import Wire, in_each, rows, to_each
from service.store.connection.commands import Argument
from service.store.scripts import PAUSE, RESUME
from service.tasks import moments

QUEUE: Final = "queue"
TYPE: Final = "type"


class Pause(msgspec.Struct, frozen=True):
    """What is told of it. Whether it is in force says Redis's clock."""

    reason: str | None
    since: str
    until: str | None
    by: str | None


class Paused(NamedTuple):
    """All that is paused, by name."""

    queues: dict[str, Pause]
    types: dict[str, Pause]


class Pauses:
    def __init__(self, wire: Wire, groups: Sequence[Sequence[int]], need_layout: Callable[[], None]) -> None:
        self._wire = wire
        self._groups = groups
        self._need_layout = need_layout

    def pause(self, kind: str, name: str, told: Pause) -> None:
        """Of a QUEUE or a TYPE. One that is paused already is paused anew."""
        self._need_layout()
        ends = moments.microseconds(told.until) if told.until else ""
        arguments = (f"{kind}:{name}", msgspec.json.encode(told), ends, time.time_ns() // 1000)
        to_each(self._groups, lambda group: self._pause(group, arguments))

    def _pause(self, group: Sequence[int], arguments: Sequence[Argument]) -> None:
        self._wire.call(group[0], PAUSE.call([keys.pauses(partition) for partition in group], arguments))

    def resume(self, kind: str, name: str) -> bool:
        """Returns whether there was a pause. What stands in lots is still to be released."""
        return any([*in_each(self._groups, lambda group: self._resume(group, f"{kind}:{name}"))])

    def _resume(self, group: Sequence[int], field: str) -> bool:
        names = [name_of(partition) for partition in group for name_of in (keys.pauses, keys.resumed)]
        [ended] = self._wire.call(group[0], RESUME.call(names, [field]))
        return bool(ended)

    def now(self) -> Paused:
        """All pauses that are in force."""
        found = Paused({}, {})
        for group in self._groups:
            commands = [("HGETALL", keys.pauses(partition)) for partition in group]
            [seconds, microseconds], *answers = self._wire.call(group[0], ("TIME",), *commands)
            now = int(seconds) * 1_000_000 + int(microseconds)
            for answer in answers:
                for kind, name, pause in _in_force(answer, now):
                    (found.queues if kind == QUEUE else found.types)[name] = pause
        return found


def _in_force(answer: Sequence[bytes], now: int) -> Iterator[tuple[str, str, Pause]]:
    for field, value in rows(answer, 2):
        kind, _, name = field.decode().partition(":")
        ends, _, told = value.partition(b" ")
        if not ends or now < int(ends):
            yield kind, name, msgspec.json.decode(told, type=Pause)
