"""Schedules: a JSON document each, in the partition that its name decides, and its place in that partition's timetable.

The task of a time is created by the script that moves its schedule on: so each time has its task once, whoever comes
first and whoever dies. The UID of the task follows from the schedule and the time.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from service.errors import KeyHeld
from service.store import keys
from service.store.connection import Wire, in_each, rows
from service.store.documents import Document
from service.store.keys import Partitions
from service.store.scripts import CREATE, RESCHEDULE, TIMETABLE
from service.tasks.document import Task
from service.tasks.schedule import ALLOW, Outlook, Schedule, decode, encode, fired, look_at, uid_prefix

MOST_DUE: Final = 1000
MICROSECONDS: Final = 1_000_000

log = logging.getLogger("sandbox.store")

Creation = Callable[..., tuple[list[str], list[Any]]]


class Found(NamedTuple):
    """A schedule, and its text as read."""

    name: str
    text: bytes
    schedule: Schedule | None  # None: the text is no schedule that this release can read


class Schedules:
    def __init__(self, wire: Wire, groups: Sequence[Sequence[int]], partitions: Partitions, creation: Creation) -> None:
        """`creation` makes the keys and arguments of the script that creates tasks."""
        self._wire = wire
        self._groups = groups
        self._partitions = partitions
        self._creation = creation
        self._are_due: set[int] = set()
        self._turn = 0

    def uid(self, name: str, at: int) -> str:
        """Of the task for this time."""
        return self._partitions.uid(uid_prefix(name, at), self._home(name))

    def now(self, partition: int = 0) -> int:
        """What the clock of this partition's Redis says, in microseconds."""
        [[seconds, microseconds]] = self._wire.call(partition, ("TIME",))
        return int(seconds) * MICROSECONDS + int(microseconds)

    # --- read ----------------------------------------------------------------------------------------

    def read(self, name: str) -> Found | None:
        home = self._home(name)
        [text] = self._wire.call(home, ("GET", keys.schedule(home, name)))
        return None if text is None else _found(name, text)

    def all(self) -> list[Found]:
        """By name."""
        found = [each for group in self._groups for each in self._ask(group, "all", -1)[1]]
        return sorted(found, key=lambda each: each.name)

    def note(self, partition: int, are_due: bool) -> None:
        """What the look at due tasks has seen of the timetables of this partition's group."""
        group = self._group(partition)
        if are_due:
            self._are_due.add(group)
        else:
            self._are_due.discard(group)

    def due(self) -> Iterator[tuple[int, list[Found]]]:
        """Those whose time has come, with what the clock of their Redis says. Where none was noted it is not asked.
        Each time another partition comes first, and another thousand of a partition's: who asks may not come to the
        last ones, or leave the first ones alone.
        """
        self._turn += 1
        groups = [_turned(self._groups[group], self._turn) for group in _turned(sorted(self._are_due), self._turn)]
        return in_each(groups, lambda group: self._ask(group, "due", MOST_DUE))

    def _ask(self, group: Sequence[int], which: str, count: int) -> tuple[int, list[Found]]:
        bases = [keys.schedule(partition, "") for partition in group]
        turn = self._turn // sum(map(len, self._groups))  # each partition has come first since the last one
        command = TIMETABLE.call([*map(keys.timetable, group)], [which, count, turn, *bases])
        [[now, *found]] = self._wire.call(group[0], command)
        return int(now), [_found(name.decode(), text) for name, text in rows(found, 2)]

    # --- change --------------------------------------------------------------------------------------

    def change(self, name: str, transition: Callable[[Schedule | None, int], Schedule]) -> tuple[Schedule, bool]:
        """Reads, changes by Redis's clock, stores, and starts anew if somebody was quicker. Returns the schedule as it
        is now, and whether it is new.
        """
        while True:
            found, now = self.read(name), self.now(self._home(name))
            before = found and found.schedule
            after = transition(before, now)
            if after is before or self.replace(name, found.text if found else b"", after, now):
                return after, found is None
            again = self.read(name)
            if again is not None and again.text == encode(after):
                return after, found is None  # it was stored, only the answer was lost

    def replace(self, name: str, text: bytes, after: Schedule, now: int) -> bool:
        """Stores it if the text still is what was read; b"" for nothing."""
        return self._reschedule(name, text, encode(after), _score(after, now))

    def remove(self, found: Found) -> bool:
        return self._reschedule(found.name, found.text, b"", "")

    def put_off(self, found: Found, until: int) -> None:
        """It is looked at again then, as it is."""
        self._reschedule(found.name, found.text, found.text, until)

    def _reschedule(self, name: str, text: bytes, after: bytes, score: Any) -> bool:
        home = self._home(name)
        names = [keys.schedule(home, name), keys.timetable(home)]
        [is_done] = self._wire.call(home, RESCHEDULE.call(names, [text, after, name, score]))
        return bool(is_done)

    def fire(self, found: Found, turn: Outlook, task: Task, last: Document | None, now: int) -> bool:
        """Creates the task and moves the schedule on, if it and the last task still are what was read. Returns whether
        that was done. A task that is there already was created for this time before: the schedule just moves on. Raises
        KeyHeld if another task has the unique key.
        """
        after = fired(turn, task.uid, now)
        home = self._home(found.name)
        names = [keys.schedule(home, found.name), keys.timetable(home)]
        seen = b""
        before = found.schedule
        if before is not None and before.last is not None and before.overlap != ALLOW:
            names.append(before.last.uid)
            seen = last.text if last else b""
        arguments = [found.text, encode(after), found.name, _score(after, now), seen]
        creation = self._creation(home, [task], plans={}, now=now, schedule=(names, arguments))
        [answer] = self._wire.call(home, CREATE.call(*creation))
        if answer == 0:
            again = self.read(found.name)
            return again is not None and again.text == encode(after)  # it was done, only the answer was lost
        if answer and isinstance(answer[0], int):
            raise KeyHeld(f"the task {answer[1].decode()} has the same unique key", answer[1].decode())
        if answer:
            self.replace(found.name, found.text, turn.after, now)
            return False
        return True

    def _home(self, name: str) -> int:
        """The partition: the name decides it."""
        return self._partitions.home(self._partitions.uid(uid_prefix(name, 0)))

    def _group(self, partition: int) -> int:
        return next(place for place, group in enumerate(self._groups) if partition in group)


def _found(name: str, text: bytes) -> Found:
    try:
        return Found(name, text, decode(text))
    except msgspec.MsgspecError as error:
        log.error("the schedule %s cannot be read (%s)", name, error, extra={"once": f"schedule {name}"})
        return Found(name, text, None)


def _turned(places: Sequence[int], turn: int) -> Sequence[int]:
    first = turn % max(1, len(places))
    return (*places[first:], *places[:first])


def _score(schedule: Schedule, now: int) -> int | str:
    at = look_at(schedule, now)
    return "+inf" if at is None else at
