"""Documents: create, read, move, change; and with them what points at them. docs/store.md has the rules."""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from service.errors import StoreRefused, StoreUnavailable
from service.store import backlog, keys
from service.store.backlog import Backlog
from service.store.connection import Command, Wire, missing_right, rows
from service.store.index import Index
from service.store.keys import Partitions
from service.store.layout import GuardedWire, Layout
from service.store.moves import PORTION_BYTES, Batch, Change, Document, Moved, document
from service.store.queues import Entry, Queues, fetched
from service.store.scripts import CREATE, DUE, PROBE, STALE
from service.store.wakeups import Wakeups
from service.tasks import moments, transitions
from service.tasks.document import SCHEDULED, Task, decode_or_none, encode

ROOM_BYTES: Final = 3 * PORTION_BYTES  # a portion as it was read, as it is to be, and as a script holds it
PROBE_UID: Final = "0" * 59

log = logging.getLogger("sandbox.store")


class Store:
    def __init__(
        self, wire: Wire, *, partitions: int = 1, retention_seconds: float = 7 * 86400, layout: Layout | None = None
    ) -> None:
        """With a layout, nothing is done on a Redis that is not this installation's."""
        if layout is not None:
            wire = GuardedWire(wire, layout)
        self._wire = wire
        self._layout = layout
        self._retention_ms = max(1, int(retention_seconds * 1000))
        self._partitions = Partitions(partitions)
        self.partitions = partitions
        self.uid = self._partitions.uid
        self.partition = self._partitions.of
        self.queues = Queues(wire)
        self.index = Index(wire, partitions, self.read_many)
        self.wakeups = Wakeups(wire)

    def close(self) -> None:
        self.wakeups.close()
        self._wire.close()

    # --- create and read -----------------------------------------------------------------------

    def create(self, new: Sequence[Task]) -> list[Document | None]:
        """Stores all of the tasks, or none if one is there already. Returns [] when all are stored; otherwise, for each
        task in turn, what is there. The tasks lie in one partition.
        """
        return self.create_each([new])[0]

    def create_each(self, groups: Sequence[Sequence[Task]]) -> list[list[Document | None]]:
        """Does as `create` for each group by itself, all in one round trip."""
        partition = self._partitions.home(groups[0][0].uid)
        answers = self._wire.call(partition, *[self._create_command(partition, new) for new in groups])
        return [[document(text) for text in present] for present in answers]

    def _create_command(self, partition: int, new: Sequence[Task]) -> Command:
        names = [keys.shelves(partition), keys.due(partition)]
        arguments: list[Any] = [len(new), keys.changes(partition)]
        for task in new:
            shelf = keys.shelf_name(task, task.status)
            names += (task.uid, keys.shelf(partition, shelf), keys.queue(partition, task.queue))
            arguments += (
                encode(task),
                shelf,
                moments.microseconds(task.created_at),
                moments.microseconds(task.run_at) if task.run_at else "",
            )
        return CREATE.call(names, arguments)

    def read(self, uid: str) -> Document | None:
        return self.read_many([uid])[0]

    def read_many(self, uids: Sequence[str]) -> list[Document | None]:
        return [document(text) for text in self.texts(uids)]

    def texts(self, uids: Sequence[str]) -> list[bytes | None]:
        """The documents as stored."""
        found: dict[str, bytes | None] = {}
        by_partition: dict[int, list[str]] = {}
        for uid in uids:
            partition = self.partition(uid)
            if partition is not None:
                by_partition.setdefault(partition, []).append(uid)
        for partition, members in by_partition.items():
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
        batch = Batch(changes, self._partitions, self._retention_ms, consumer)
        for partition, moves in batch.moves.items():
            for together in [moves] if batch.is_small else [[move] for move in moves]:
                batch.note(together, self._wire.call(partition, *[move.command for move in together]))
        return batch.moved()

    def move_and_fetch(
        self, changes: Sequence[Change], partition: int, queues: Sequence[str], consumer: str, count: int
    ) -> tuple[Moved, list[Entry]]:
        """Moves, then fetches: in one round trip if the changes fit. They are of this partition."""
        batch = Batch(changes, self._partitions, self._retention_ms)
        if not batch.is_small:
            return self.move(changes), self.queues.fetch(partition, queues, consumer, count)
        moves = batch.moves.get(partition, [])
        streams = keys.streams(partition, queues)
        fetch = self.queues.fetch_command(partition, streams, consumer, count)
        *answers, found = self._wire.call(partition, *[move.command for move in moves], fetch, once=True)
        batch.note(moves, answers)
        return batch.moved(), fetched(partition, streams, found)

    def change(self, uid: str, transition: Callable[[Task], Task]) -> Document | None:
        """Reads, changes, stores, and starts anew if somebody was quicker. None if there is no such task."""
        while (found := self.read(uid)) is not None:
            after = transition(found.task)
            for _, stored in self.move([Change(found.text, found.task, after)]).stored:
                return stored
            again = self.read(uid)
            if again is not None and again.text == encode(after):
                return again  # it was stored, only the answer was lost
        return None

    def promote(self, partition: int, count: int) -> int:
        """Queues scheduled tasks that are due by Redis's clock: so many, or fewer if they are large."""
        [answer] = self._wire.call(partition, DUE.call([keys.due(partition)], [count, PORTION_BYTES]))
        changes: list[Change] = []
        stale: dict[bytes, bytes] = {}
        for uid, text in rows(answer, 2):
            task = decode_or_none(text)
            if task is None or task.status != SCHEDULED:
                log.error("what is due under %s is no scheduled task; its due time is dropped", uid.decode())
                stale[uid] = text
            else:
                changes.append(Change(text, task, transitions.promoted(task)))
        if stale:
            self._wire.call(partition, STALE.call([keys.due(partition), *stale], stale.values()))
        return len(self.move(changes).stored)

    # --- the whole -----------------------------------------------------------------------------

    def backlog(self, queues: Iterable[str]) -> dict[str, Backlog]:
        """What waits, runs and is scheduled in these queues, and in any other that has tasks."""
        return backlog.measure(self._wire, self.partitions, queues)

    def is_my_turn(self, partition: int, duty: str, milliseconds: int) -> bool:
        """True for one process only in so many milliseconds."""
        [answer] = self._wire.call(partition, ("SET", keys.duty(partition, duty), 1, "NX", "PX", milliseconds))
        return answer is not None

    def claim(self) -> None:
        """Makes this Redis the installation's. Raises WrongRedis if it is another's."""
        if self._layout is not None:
            self._layout.claim()

    def check(self) -> None:
        """Raises StoreUnavailable unless a task can be created in every partition."""
        for partition in range(self.partitions):
            names = [keys.ready(partition), *[keys.probe(partition, kind) for kind in ("set", "shelf", "queue")]]
            try:
                self._wire.call(partition, PROBE.call([*names, self.uid(PROBE_UID, partition)], []))
            except StoreRefused as error:
                if (right := missing_right(error)) is None:
                    raise
                raise StoreUnavailable(right) from error

    def check_room(self) -> None:
        """Raises StoreUnavailable if Redis has a limit, and the most that is written at a time would go beyond it."""
        for partition in range(self.partitions):
            try:
                [answer] = self._wire.call(partition, ("INFO", "memory"))
            except StoreRefused:
                return  # a user without that right
            numbers = dict(line.split(b":", 1) for line in answer.splitlines() if b":" in line)
            most, used = int(numbers.get(b"maxmemory", 0)), int(numbers.get(b"used_memory", 0))
            if most and most - used < ROOM_BYTES:
                raise StoreUnavailable(
                    f"Redis has {max(0, most - used)} bytes of room below its maxmemory, and one write may need "
                    f"{ROOM_BYTES}"
                )
