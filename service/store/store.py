"""Documents: create, read, move, change; and with them what points at them. docs/store.md has the rules."""

import logging
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from service.errors import InvalidTransition, StoreRefused, StoreUnavailable
from service.store import backlog, keys, unique_keys
from service.store.backlog import Backlog
from service.store.census import Census
from service.store.connection import Command, Wire, in_each, missing_right, rows
from service.store.documents import Document, document
from service.store.history import History
from service.store.homes import Homes
from service.store.index import Index
from service.store.keys import Partitions
from service.store.layout import LIMITS, ORDER, GuardedWire, Layout
from service.store.limits import Limits
from service.store.logbook import Logbook
from service.store.lots import Lots
from service.store.moves import PORTION_BYTES, Batch, Change, Moved
from service.store.pauses import Pauses
from service.store.queues import Entry, Queues
from service.store.roster import Roster
from service.store.schedules import Schedules
from service.store.scripts import CREATE, DUE, LATER, PROBE, PURGE, STALE
from service.store.sessions import Sessions
from service.store.unique_keys import Created, Demands, UniqueKeys
from service.store.wakeups import Wakeups
from service.tasks import moments, transitions, unique
from service.tasks.document import NORMAL, PRIORITIES, SCHEDULED, Task, encode
from service.tasks.limit_rule import is_set

LATER_SECONDS: Final = 60
KNOWN_SECONDS: Final = 600.0

ROOM_BYTES: Final = 3 * PORTION_BYTES  # a portion as it was read, as it is to be, and as a script holds it
PROBE_UID: Final = "0" * 59
THERE: Final = 1  # what a script says of a document that is to be read by itself
LARGE_AT_ONCE: Final = 20

log = logging.getLogger("sandbox.store")


class Store:
    def __init__(
        self,
        wire: Wire,
        *,
        partitions: int = 1,
        retention_seconds: float = 7 * 86400,
        known_seconds: float = KNOWN_SECONDS,
        layout: Layout | None = None,
        served: Sequence[str] = (),
    ) -> None:
        """With a layout, nothing is done on a Redis that is not this installation's. A type is known for
        `known_seconds` after a runner has told it. `served` are the queues that the installation's runners serve.
        """
        self._guard = None if layout is None else GuardedWire(wire, layout)
        wire = self._guard or wire
        self._wire = wire
        self._layout = layout
        self._retention_ms = max(1, int(retention_seconds * 1000))
        self._partitions = Partitions(partitions)
        self.partitions = partitions
        self.uid = self._partitions.uid
        self.partition = self._partitions.of
        self.groups = wire.together(partitions)
        self.queues = Queues(wire, self.groups)
        self.index = Index(wire, self.groups, self.partition, self.read_many)
        self.wakeups = Wakeups(wire)
        self.logbook = Logbook(wire, self._partitions)
        self.history = History(wire)
        self.roster = Roster(wire)
        self.sessions = Sessions(wire)
        if self._guard is not None:
            self._guard.unable = Census(self.queues, self.roster, partitions, served).unable
        self.pauses = Pauses(wire, self.groups, self._need_order)
        self.unique_keys = UniqueKeys(wire, self._partitions, self.read)
        self.lots = Lots(wire, self.groups, known_seconds, self._need_order)
        self.limits = Limits(wire, self.groups, partitions, self._need_limits)
        self.homes = Homes(self._partitions, self.limits, self.unique_keys, self.texts)
        self.schedules = Schedules(wire, self.groups, self._partitions, self._creation)

    def close(self) -> None:
        self.wakeups.close()
        self._wire.close()

    # --- create and read -----------------------------------------------------------------------

    def create(self, new: Sequence[Task], *, first: bool = False) -> list[Document | None]:
        """Stores all of the tasks, or none if one is there already. Returns [] when all are stored; otherwise, for each
        task in turn, what is there. The tasks lie in one partition, and want no unique keys. `first`: before all that
        waits in their queues.
        """
        self.prepare(new)
        return self.create_each([new], first=first)[0]

    def prepare(self, new: Sequence[Task]) -> None:
        """Before tasks are created by `create_each`. Raises if what they ask for cannot be written yet."""
        if any(task.priority != NORMAL for task in new):
            self._need_order()

    def create_each(self, groups: Sequence[Sequence[Task]], *, first: bool = False) -> list[list[Document | None]]:
        """Does as `create` for each group by itself, all in one round trip."""
        partition = self._partitions.home(groups[0][0].uid)
        answers = self._wire.call(partition, *[CREATE.call(*self._creation(partition, new, first)) for new in groups])
        return [
            [document(task.uid, text) for task, text in zip(new, self._with_large_ones(new, present), strict=True)]
            if present
            else []
            for new, present in zip(groups, answers, strict=True)
        ]

    def create_unique(self, new: Sequence[Task]) -> Created:
        """Does as `create` for tasks of which some want unique keys. Raises KeyHeld if one is refused for its key."""
        self.prepare(new)
        partition = self._partitions.home(new[0].uid)

        def try_to(wanted: Sequence[Task], plans: Demands) -> list[Any]:
            names, arguments = self._creation(partition, wanted, plans=plans)
            [answer] = self._wire.call(partition, CREATE.call(names, arguments))
            return list(answer) if answer and isinstance(answer[0], int) else self._with_large_ones(wanted, answer)

        made = unique_keys.create(try_to, new)
        texts = self.texts([task.uid for task in made.replaced]) if made.replaced else []
        replaced = [task for task, text in zip(made.replaced, texts, strict=True) if text == encode(task)]
        return made._replace(replaced=replaced)

    def _with_large_ones(self, new: Sequence[Task], present: Sequence[bytes | int | None]) -> list[Any]:
        """The texts that are there. Of those after the first megabytes the script has only said that they are."""
        if THERE not in present:
            return list(present)
        large = [task.uid for task, text in zip(new, present, strict=True) if text == THERE]
        portions = (large[at : at + LARGE_AT_ONCE] for at in range(0, len(large), LARGE_AT_ONCE))
        texts = iter([text for portion in portions for text in self.texts(portion)])
        return [next(texts) if text == THERE else text for text in present]

    def _creation(
        self,
        partition: int,
        new: Sequence[Task],
        first: bool = False,
        *,
        plans: Demands | None = None,
        now: int | None = None,
        schedule: tuple[Sequence[Any], Sequence[Any]] = ((), ()),
    ) -> tuple[list[str], list[Any]]:
        """The keys and arguments of the script. `now` is what the clock says by which the tasks are due; `schedule` has
        those of the one that creates the task.
        """
        names = [keys.shelves(partition), keys.due(partition)]
        arguments: list[Any] = [len(new), keys.changes(partition), time.time_ns() // 1000 if now is None else now]
        bounded: list[Any] = []
        for number, task in enumerate(new, 1):
            shelf = keys.shelf_name(task, task.status)
            line = keys.returned(partition, task.queue) if first else keys.line(partition, task.queue, task.priority)
            names += (task.uid, keys.shelf(partition, shelf), line)
            arguments += (
                encode(task),
                shelf,
                moments.microseconds(task.created_at),
                moments.microseconds(task.run_at) if task.run_at else "",
            )
            if task.type in self.limits.types and task.run_at is None and (places := self._bounds(partition, task)):
                bounded += (number, places)
        wanted = [] if plans is None else unique_keys.arguments(new, plans)
        if wanted or bounded:
            number = len(wanted) // unique_keys.WIDTH
            arguments += (keys.base(partition), self._retention_ms, number, *wanted, *bounded)
        return [*names, *schedule[0]], [*arguments, *schedule[1]]

    def _bounds(self, partition: int, task: Task) -> str:
        """The places at which a new task may have to wait."""
        places = self.limits.asked(partition, task)
        return places if is_set(places) else ""

    def read(self, uid: str) -> Document | None:
        [found] = self.read_many([uid])
        if found is None or found.is_readable:
            return found
        return Document(self.index.placed(found.task), found.text)

    def read_many(self, uids: Sequence[str]) -> list[Document | None]:
        return [document(uid, text) for uid, text in zip(uids, self.texts(uids), strict=True)]

    def texts(self, uids: Sequence[str]) -> list[bytes | None]:
        """The documents as stored."""
        found: dict[str, bytes | None] = {}
        for partition, asked in keys.by_partition(uids, self.partition).items():
            if partition is None:
                continue
            members = dict.fromkeys(asked)  # many may wait for one task
            [texts] = self._wire.call(partition, ("MGET", *members))
            found.update(zip(members, texts, strict=True))
        return [found.get(uid) for uid in uids]

    def read_again(self, entries: Sequence[Entry]) -> list[Entry]:
        """The entries with their documents as they are now."""
        texts = self.texts([entry.uid for entry in entries]) if entries else []
        return [entry._replace(text=text) for entry, text in zip(entries, texts, strict=True)]

    # --- change --------------------------------------------------------------------------------

    def move(self, changes: Sequence[Change], *, consumer: str = "") -> Moved:
        """Stores each change whose document still is what was read.

        With a consumer, the entry must be pending for it and stays; without one, it is dropped.
        """
        batch = self._batch(changes, consumer)
        for partition, moves in batch.moves.items():
            for together in [moves] if batch.is_small else [[move] for move in moves]:
                batch.note(together, self._wire.call(partition, *[move.command for move in together]))
        return batch.moved()

    def move_and_fetch(
        self,
        changes: Sequence[Change],
        partition: int,
        queues: Sequence[str],
        consumer: str,
        count: int,
        priorities: Sequence[str] = PRIORITIES,
    ) -> tuple[Moved, list[Entry]]:
        """Moves, then fetches: in one round trip if the changes fit. They are of this partition, or of its group."""
        batch = self._batch(changes)
        if not batch.is_small:
            return self.move(changes), self.queues.fetch(partition, queues, consumer, count, priorities)
        moves = [move for together in batch.moves.values() for move in together]
        streams = self.queues.streams(partition, queues, priorities)
        fetch = streams.fetch_command(consumer, count)
        *answers, found = self._wire.call(partition, *[move.command for move in moves], fetch, once=True)
        batch.note(moves, answers)
        return batch.moved(), self.queues.fetched(streams, found)

    def _batch(self, changes: Sequence[Change], consumer: str = "") -> Batch:
        asked = self.limits.asked if self.limits.types else None
        return Batch(changes, self._partitions, self._retention_ms, consumer, asked)

    def change(self, uid: str, transition: Callable[[Task], Task]) -> Document | None:
        """Reads, changes, stores, and starts anew if somebody was quicker. None if there is no such task. Raises
        KeyHeld if another one has the unique key that the task is to take again.
        """
        while (found := self.read(uid)) is not None:
            after = transition(found.task)
            if found.task.unique is not None and unique.effect(found.task, after) == unique.TAKES:
                self.unique_keys.refuse_held(found.task)
            for _, stored in self.move([Change(found.text, found.task, after)]).stored:
                return stored
            again = self.read(uid)
            if again is not None and again.text == encode(after):
                return again  # it was stored, only the answer was lost
        return None

    def purge(self, uid: str) -> Document | None:
        """Removes a task that has finished, or that cannot be read, and returns it. None if there is no such task."""
        sent: Document | None = None
        while (found := self.read(uid)) is not None:
            if found.is_readable and not found.task.finished:
                raise InvalidTransition(f"the task is {found.task.status}: cancel it first; then it can be purged")
            partition = self._partitions.home(uid)
            beside = keys.log(partition, uid), keys.attempts(partition, uid)
            names = [uid, keys.shelves(partition), keys.due(partition), *beside]
            if self._wire.call(partition, PURGE.call(names, [found.text, keys.shelf(partition, "")])) == [1]:
                return found
            sent = found
        return sent  # if there was one, it is gone now: the purge was done, only its answer was lost

    def promote(self, partition: int, count: int) -> int:
        """Queues scheduled tasks that are due by Redis's clock: so many, or fewer if they are large. They are of this
        partition, or of the others in its group.
        """
        group = self.queues.group(partition)
        names = [*map(keys.due, group), *map(keys.timetable, group)]
        [[are_due, *found]] = self._wire.call(partition, DUE.call(names, [count, PORTION_BYTES]))
        self.schedules.note(partition, bool(are_due))
        changes: list[Change] = []
        for key, text in rows(found, 2):
            uid = key.decode()
            read = document(uid, text)
            assert read is not None  # the script passes over what is not there
            task, home = read.task, self._partitions.home(uid)
            if task.status == SCHEDULED:
                changes.append(Change(text, task, transitions.promoted(task)))
            elif read.is_readable:
                log.error("what is due under %s is no scheduled task; its due time is dropped", uid)
                self._wire.call(home, STALE.call([keys.due(home), uid], [text]))
            else:
                log.error("task %s is due, but %s; looking again in a minute", uid, read.problem)
                self._wire.call(home, LATER.call([keys.due(home), uid], [LATER_SECONDS, text]))
        return len(self.move(changes).stored)

    def note(self, uid: str, text: bytes) -> None:
        """Keeps a text beside a document, for as long as a finished document is kept."""
        home = self._partitions.home(uid)
        self._wire.call(home, ("SET", keys.note(home, uid), text, "PX", self._retention_ms))

    def noted(self, uid: str) -> bytes | None:
        home = self._partitions.home(uid)
        [text] = self._wire.call(home, ("GET", keys.note(home, uid)))
        return text if text is None else bytes(text)

    # --- the whole -----------------------------------------------------------------------------

    def backlog(self, queues: Iterable[str]) -> dict[str, Backlog]:
        """What waits, runs and is scheduled in these queues, and in any other that has tasks."""
        return backlog.measure(self._wire, self.partitions, queues)

    def is_my_turn(self, partition: int, duty: str, milliseconds: int) -> bool:
        """True for one process only in so many milliseconds."""
        [answer] = self._wire.call(partition, ("SET", keys.duty(partition, duty), 1, "NX", "PX", milliseconds))
        return answer is not None

    def _need_order(self) -> None:
        """Before the first use of what came with priorities, pauses and lots."""
        if self._guard is not None:
            self._guard.need(ORDER)

    def _need_limits(self) -> None:
        """Before the first limit."""
        if self._guard is not None:
            self._guard.need(LIMITS)

    def claim(self) -> None:
        """Makes this Redis the installation's. Raises WrongRedis if it is another's."""
        if self._guard is not None:
            self._guard.claim()

    def judge(self) -> None:
        """Raises WrongRedis if this Redis is another's. It changes nothing there."""
        if self._layout is not None:
            self._layout.judge()

    def check(self) -> None:
        """Raises StoreUnavailable unless a task can be created in every partition."""
        for group in self.groups:
            self._check(group)

    def check_one(self) -> None:
        """The same of one group of partitions: a runner has something to do then, though others are away."""
        next(in_each(self.groups, self._check))

    def _check(self, group: Sequence[int]) -> None:
        try:
            self._wire.call(group[0], *map(self._probe, group))
        except StoreRefused as error:
            if (right := missing_right(error)) is None:
                raise
            raise StoreUnavailable(right) from error

    def _probe(self, partition: int) -> Command:
        names = [keys.ready(partition), *[keys.probe(partition, kind) for kind in ("set", "shelf", "queue")]]
        return PROBE.call([*names, self.uid(PROBE_UID, partition)], [])

    def check_room(self) -> None:
        """Raises StoreUnavailable if Redis has a limit, makes no room by itself, and the most that is written at a time
        would go beyond the limit.
        """
        for group in self.groups:
            try:
                [answer] = self._wire.call(group[0], ("INFO", "memory"))
            except StoreRefused:
                return  # a user without that right
            numbers = dict(line.split(b":", 1) for line in answer.splitlines() if b":" in line)
            most, used = int(numbers.get(b"maxmemory", 0)), int(numbers.get(b"used_memory", 0))
            if most and most - used < ROOM_BYTES and numbers.get(b"maxmemory_policy") == b"noeviction":
                raise StoreUnavailable(
                    f"Redis has {max(0, most - used)} bytes of room below its maxmemory, and one write may need "
                    f"{ROOM_BYTES}"
                )
