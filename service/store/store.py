"""The only module that speaks Redis: documents, and what points at them.

Keys, all of one partition in one slot:

    <uid>                                      the document, a string
    sandbox:{p}:queue:<queue>                  stream of waiting tasks, one consumer group
    sandbox:{p}:returned:<queue>               stream of tasks handed back; served before the other
    sandbox:{p}:due                            sorted set: scheduled tasks by due time
    sandbox:{p}:shelf:<type>:<queue>:<status>  sorted set: exactly these tasks, by creation time
    sandbox:{p}:shelves                        set: names of the shelves there are
    sandbox:{p}:takes                          number: how often entries were taken from a consumer

Every document stands on the one shelf that its type, queue and status name; that is the index
behind the list. A script changes the document and its pointers together (lua/).
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from service.errors import StoreRefused
from service.store.backlog import Backlog
from service.store.connection import Command, Wire
from service.store.scripts import (
    BACKLOG,
    CREATE,
    DROP,
    DUE,
    FETCH,
    MOVE,
    RENEW,
    RETIRE,
    SHELVES,
    STALE,
    SWEEP,
    TAKE,
)
from service.tasks import moments, transitions
from service.tasks.document import QUEUED, RUNNING, SCHEDULED, Task, decode, decode_or_none, encode
from service.tasks.uid import slot, steer

GROUP: Final = "runners"
_NO_GROUP: Final = ("NOGROUP", "UNBLOCKED", "no such key")
PAGE_READS: Final = 1000
PORTION_BYTES: Final = 2 * 1024 * 1024  # what even a slow network carries before an answer is overdue


log = logging.getLogger("sandbox.store")


class Document(NamedTuple):
    task: Task
    text: bytes


class Entry(NamedTuple):
    """A queue entry that this consumer holds, with its document as read then."""

    partition: int
    stream: str
    id: str
    uid: str
    text: bytes | None
    takes: bytes = b""
    owner: str = ""


class Change(NamedTuple):
    """A transition to be stored: the text that was read, the tasks before and after, the entry."""

    text: bytes
    before: Task
    after: Task
    entry: Entry | None = None


class Position(NamedTuple):
    """A place in the list, newest first: creation time in microseconds, then the UID."""

    created: int
    uid: str


class Filter(NamedTuple):
    type: str | None = None
    queue: str | None = None
    status: str | None = None
    created_by: str | None = None  # no shelf knows it: documents are read, and dropped from the page

    def admits(self, task: Task) -> bool:
        return all(wanted in (None, getattr(task, name)) for name, wanted in zip(self._fields, self, strict=True))


EVERYTHING: Final = Filter()


class Store:
    def __init__(self, wire: Wire, *, partitions: int = 1, retention_seconds: float = 7 * 86400) -> None:
        self._wire = wire
        self._retention_ms = max(1, int(retention_seconds * 1000))
        self.partitions = partitions
        self._slots = [slot(str(partition).encode()) for partition in range(partitions)]
        self._partition_of_slot = {slot: partition for partition, slot in enumerate(self._slots)}

    def close(self) -> None:
        self._wire.close()

    # --- names ---------------------------------------------------------------------------------

    def uid(self, prefix: str, partition: int | None = None) -> str:
        """The whole UID: its partition follows from the prefix, unless given, its last characters from the slot."""
        if partition is None:
            partition = int(prefix[:8], 16) % self.partitions
        return steer(prefix, self._slots[partition])

    def partition(self, uid: str) -> int | None:
        """Where a UID lies; None if it is none of this service's."""
        return self._partition_of_slot.get(slot(uid.encode()))

    def _due(self, partition: int) -> str:
        return f"sandbox:{{{partition}}}:due"

    def _takes(self, partition: int) -> str:
        return f"sandbox:{{{partition}}}:takes"

    def _shelves(self, partition: int) -> str:
        return f"sandbox:{{{partition}}}:shelves"

    def _shelf(self, partition: int, name: str) -> str:
        return f"sandbox:{{{partition}}}:shelf:{name}"

    def _queue(self, partition: int, queue: str) -> str:
        return f"sandbox:{{{partition}}}:queue:{queue}"

    def _returned(self, partition: int, queue: str) -> str:
        return f"sandbox:{{{partition}}}:returned:{queue}"

    def streams(self, partition: int, queues: Iterable[str]) -> list[str]:
        """Every stream of these queues, in the order in which they are served."""
        return [name(partition, queue) for queue in queues for name in (self._returned, self._queue)]

    # --- documents -----------------------------------------------------------------------------

    def create(self, new: Sequence[Task]) -> list[Document | None]:
        """Stores all of the tasks; or none, and tells which are there already. One partition."""
        return self.create_each([new])[0]

    def create_each(self, groups: Sequence[Sequence[Task]]) -> list[list[Document | None]]:
        """Like `create` for each group by itself, all in one round trip. One partition."""
        partition = self._home(groups[0][0].uid)
        answers = self._wire.call(partition, *[self._create_command(partition, new) for new in groups])
        return [[_document(text) for text in present] for present in answers]

    def _create_command(self, partition: int, new: Sequence[Task]) -> Command:
        keys = [self._shelves(partition), self._due(partition)]
        arguments: list[Any] = [len(new)]
        for task in new:
            name = _shelf_name(task, task.status)
            keys += (task.uid, self._shelf(partition, name), self._queue(partition, task.queue))
            arguments += (
                encode(task),
                name,
                moments.microseconds(task.created_at),
                moments.microseconds(task.run_at) if task.run_at else "",
            )
        return CREATE.call(keys, arguments)

    def read(self, uid: str) -> Document | None:
        return self.read_many([uid])[0]

    def read_many(self, uids: Sequence[str]) -> list[Document | None]:
        return [_document(text) for text in self.texts(uids)]

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

    def move(self, changes: Sequence[Change], *, consumer: str = "") -> list[bytes | None]:
        """Stores the changes whose document still is what was read; answers the new texts, None where refused.

        With a consumer, the entry must be pending for it and stays; without one, it is dropped.
        """
        stored: list[bytes | None] = [encode(change.after) for change in changes]
        portion = _portion(stored)
        for partition, moves in self._moves(changes, stored, consumer, portion).items():
            for together in [moves] if len(stored) <= portion else [[move] for move in moves]:
                answers = self._wire.call(partition, *[command for _, command in together])
                _mark_refused(stored, together, answers)
        return stored

    def move_and_fetch(
        self, changes: Sequence[Change], partition: int, queues: Sequence[str], consumer: str, count: int
    ) -> tuple[list[bytes | None], list[Entry]]:
        """Both, in one round trip if they fit. The changes are of this partition; some may be refused."""
        stored: list[bytes | None] = [encode(change.after) for change in changes]
        portion = _portion(stored)
        if len(stored) > portion:
            return self.move(changes), self.fetch(partition, queues, consumer, count)
        moves = self._moves(changes, stored, "", portion).get(partition, [])
        streams = self.streams(partition, queues)
        fetch = self._fetch_command(partition, streams, consumer, count)
        *answers, found = self._wire.call(partition, *[command for _, command in moves], fetch, once=True)
        _mark_refused(stored, moves, answers)
        return stored, _fetched(partition, streams, found)

    def _moves(
        self, changes: Sequence[Change], texts: Sequence[bytes | None], consumer: str, portion: int
    ) -> dict[int, list[tuple[list[int], Command]]]:
        """The commands of each partition, and the places of the changes that each makes."""
        groups: dict[tuple[Any, ...], list[int]] = {}
        for place, (_, before, after, entry) in enumerate(changes):
            stream = entry.stream if entry else None
            home = entry.partition if entry else self._home(before.uid)
            takes = entry.takes if entry and consumer else None
            group = (home, before.type, before.queue, before.status, after.status, stream, takes)
            try:
                groups[group].append(place)
            except KeyError:
                groups[group] = [place]
        moves: dict[int, list[tuple[list[int], Command]]] = {}
        for (partition, *_), alike in groups.items():
            for start in range(0, len(alike), portion):
                places = alike[start : start + portion]
                members = [changes[place] for place in places]
                command = self._move_command(partition, members, [texts[place] for place in places], consumer)
                moves.setdefault(partition, []).append((places, command))
        return moves

    def _move_command(
        self, partition: int, changes: Sequence[Change], texts: Sequence[bytes | None], consumer: str
    ) -> Command:
        _, before, after, entry = changes[0]
        joined = _shelf_name(after, after.status)
        queue = self._returned if entry else self._queue
        keys = [
            self._shelf(partition, _shelf_name(before, before.status)),
            self._shelf(partition, joined),
            self._shelves(partition),
            self._due(partition),
            entry.stream if entry else self._due(partition),
            queue(partition, after.queue),
            self._takes(partition),
        ]
        ttl = self._retention_ms if after.finished else ""
        takes = entry.takes if entry else b""
        arguments: list[Any] = [GROUP, joined, before.status, after.status, consumer, takes, ttl]
        for change, text in zip(changes, texts, strict=True):
            keys.append(change.before.uid)
            run_at = change.after.run_at
            arguments += (
                change.text,
                text,
                moments.microseconds(change.before.created_at),
                change.entry.id if change.entry else "",
                moments.microseconds(run_at) if run_at else "",
            )
        return MOVE.call(keys, arguments)

    def change(self, uid: str, transition: Callable[[Task], Task]) -> Document | None:
        """Reads, changes, stores, and reads again if somebody was quicker. None if there is no such task."""
        while (found := self.read(uid)) is not None:
            after = transition(found.task)
            [text] = self.move([Change(found.text, found.task, after)])
            if text is not None:
                return Document(after, text)
            again = self.read(uid)
            if again is not None and again.text == encode(after):
                return again  # it was stored, only the answer was lost
        return None

    def _home(self, uid: str) -> int:
        partition = self.partition(uid)
        if partition is None:
            raise ValueError(f"{uid} lies in no partition of this service")
        return partition

    # --- the list --------------------------------------------------------------------------------

    def page(
        self, *, limit: int, after: Position | None = None, only: Filter = EVERYTHING
    ) -> tuple[list[Task], Position | None]:
        """Tasks from newest to oldest, and where the next page begins."""
        page: list[Task] = []
        position, reads = after, 0
        while True:
            pointers = self._pointers(limit + 1, position, only)
            if not pointers:
                return page, None
            reads += len(pointers)
            for pointer, document in zip(pointers, self.read_many([uid for _, uid in pointers]), strict=True):
                if len(page) == limit:
                    return page, position
                position = pointer
                if document and _is_listed(document.task, pointer, only):
                    page.append(document.task)
            if reads >= PAGE_READS:
                return page, position

    def _pointers(self, count: int, after: Position | None, only: Filter) -> list[Position]:
        """The newest tasks that come after a position, from all shelves that the filter admits."""
        newest = "+inf" if after is None else after.created
        wanted = [part or "" for part in (only.type, only.queue, only.status)]
        found: list[Position] = []
        complete = True
        for partition in range(self.partitions):
            command = SHELVES.call([self._shelves(partition)], (self._shelf(partition, ""), newest, count, *wanted))
            [shelves] = self._wire.call(partition, command)
            for shelf in shelves:
                complete = complete and len(shelf) < 2 * count
                found += (Position(int(score), uid.decode()) for uid, score in _rows(shelf, 2))
        found.sort(reverse=True)
        certain = found if complete else found[:count]
        following = [position for position in certain if after is None or position < after][:count]
        if not following and not complete:
            return self._pointers(count * 2, after, only)  # a page full of tasks of one microsecond
        return following

    def _shelf_names(self, partition: int) -> list[str]:
        [names] = self._wire.call(partition, ("SMEMBERS", self._shelves(partition)))
        return sorted(map(bytes.decode, names))

    def sweep(self, partition: int, *, created_before: int, count: int, places: dict[str, int]) -> int:
        """Removes pointers to expired documents: one batch of each shelf, where the last one ended.

        Only a task created before `created_before` can have expired. `places` is the caller's
        note of how far it came; it starts again at the oldest.
        """
        removed = 0
        for name in self._shelf_names(partition):
            shelf = self._shelf(partition, name)
            place = places.get(name, 0)
            # By rank, which costs the same at any depth; LIMIT would walk there.
            [found] = self._wire.call(partition, ("ZRANGE", shelf, place, place + count - 1, "WITHSCORES"))
            uids = [uid for uid, created in _rows(found, 2) if int(created) < created_before]
            [gone] = self._wire.call(partition, SWEEP.call([shelf, self._shelves(partition), *uids], [name]))
            places[name] = place + len(uids) - gone if len(uids) == count else 0
            removed += gone
        return removed

    # --- the queue -------------------------------------------------------------------------------

    def fetch(self, partition: int, queues: Sequence[str], consumer: str, count: int) -> list[Entry]:
        """Waiting entries, at once; they are pending for the consumer from now on."""
        return self.move_and_fetch((), partition, queues, consumer, count)[1]

    def _fetch_command(self, partition: int, streams: Sequence[str], consumer: str, count: int) -> Command:
        return FETCH.call([self._takes(partition), *streams], (GROUP, consumer, count))

    def wait(self, partition: int, queues: Sequence[str], consumer: str, count: int, seconds: float) -> list[Entry]:
        """Like fetch, waiting so long if there is nothing, but for the documents. Groups exist since a fetch.

        Redis counts each stream by itself: with several queues only one is asked of each, or a later
        queue's tasks would come along with an earlier one's.
        """
        streams = self.streams(partition, queues)
        block: Command = ("COUNT", count if len(queues) == 1 else 1, "BLOCK", max(1, int(seconds * 1000)))
        options = (*block, "STREAMS", *streams, *[">"] * len(streams))
        answer = self._of_group(partition, ("XREADGROUP", "GROUP", GROUP, consumer, *options), wait_seconds=seconds)
        return [
            Entry(partition, stream.decode(), entry.decode(), fields[1].decode(), None)
            for stream, entries in answer or ()
            for entry, fields in entries
        ]

    def read_again(self, entries: Sequence[Entry]) -> list[Entry]:
        """The entries with their documents as they are now."""
        texts = self.texts([entry.uid for entry in entries]) if entries else []
        return [entry._replace(text=text) for entry, text in zip(entries, texts, strict=True)]

    def _of_group(self, partition: int, command: Command, wait_seconds: float = 0) -> Any:
        """What a stream's group answers: nothing, where it is gone with all the data; a fetch makes it anew."""
        try:
            [answer] = self._wire.call(partition, command, wait_seconds=wait_seconds, once=wait_seconds > 0)
        except StoreRefused as error:
            if any(sign in str(error) for sign in _NO_GROUP):
                return ()
            raise
        return answer

    def take(
        self, stream: str, partition: int, consumer: str, *, dead: str = "", idle_ms: int, count: int
    ) -> list[Entry]:
        """Entries that a dead consumer holds (or any, if idle for so long), now pending for this one."""
        [[takes, *found]] = self._wire.call(
            partition, TAKE.call([stream, self._takes(partition)], (GROUP, consumer, dead, idle_ms, count)), once=True
        )
        return [
            Entry(partition, stream, entry.decode(), uid.decode(), text, takes, owner.decode())
            for entry, uid, text, owner in _rows(found, 4)
        ]

    def renew(self, partition: int, consumer: str, entries: Sequence[Entry]) -> set[Entry]:
        """Refreshes the leases; answers the entries that are still the consumer's."""
        by_stream: dict[str, list[Entry]] = {}
        for entry in entries:
            by_stream.setdefault(entry.stream, []).append(entry)
        commands = [
            RENEW.call([stream], (GROUP, consumer, *[entry.id for entry in members]))
            for stream, members in by_stream.items()
        ]
        renewed: set[Entry] = set()
        for members, answer in zip(by_stream.values(), self._wire.call(partition, *commands), strict=True):
            ids = set(map(bytes.decode, answer))
            renewed.update(entry for entry in members if entry.id in ids)
        return renewed

    def vouch(self, partition: int, queues: Sequence[str], consumer: str, *, idle_ms: int) -> None:
        """Refreshes leases in the name of another consumer, which is known to live."""
        for stream in self.streams(partition, queues):
            command = ("XPENDING", stream, GROUP, "IDLE", idle_ms, "-", "+", 1000, consumer)
            if pending := self._of_group(partition, command):
                self._wire.call(partition, RENEW.call([stream], (GROUP, consumer, *[entry[0] for entry in pending])))

    def drop(self, consumer: str, entries: Sequence[Entry]) -> list[Entry]:
        """Removes stale entries, each only while its document still is what was read; answers those that stay."""
        kept = []
        for entry in entries:
            arguments = (GROUP, consumer, entry.id, entry.text or b"")
            [places] = self._wire.call(entry.partition, DROP.call([entry.stream, entry.uid], arguments))
            if places:
                kept.append(entry)
        return kept

    def consumers(self, partition: int, queues: Sequence[str]) -> dict[str, int]:
        """Every consumer's number of pending entries."""
        pending: dict[str, int] = {}
        for name, consumer in self._consumers(partition, queues):
            pending[name] = pending.get(name, 0) + consumer[b"pending"]
        return pending

    def _consumers(self, partition: int, queues: Sequence[str]) -> Iterator[tuple[str, dict[bytes, Any]]]:
        """Once for each stream that knows it."""
        for stream in self.streams(partition, queues):
            for fields in self._of_group(partition, ("XINFO", "CONSUMERS", stream, GROUP)):
                consumer = dict(_rows(fields, 2))
                yield consumer[b"name"].decode(), consumer

    def retire(self, partition: int, queues: Sequence[str], consumer: str) -> bool:
        """Forgets a consumer for which nothing is pending."""
        [forgotten] = self._wire.call(partition, RETIRE.call(self.streams(partition, queues), (GROUP, consumer)))
        return bool(forgotten)

    def retire_silent(self, partition: int, queues: Sequence[str], *, idle_ms: int) -> None:
        """Forgets consumers for which nothing is pending, and that have asked for nothing for so long."""
        idle: dict[str, int] = {}
        for name, consumer in self._consumers(partition, queues):
            idle[name] = min(idle.get(name, consumer[b"idle"]), consumer[b"idle"])
        for name in idle:
            if idle[name] >= idle_ms:
                self.retire(partition, queues, name)

    def promote(self, partition: int, count: int) -> int:
        """Queues scheduled tasks that are due by Redis's clock: so many, or fewer if they are large."""
        [answer] = self._wire.call(partition, DUE.call([self._due(partition)], [count, PORTION_BYTES]))
        changes: list[Change] = []
        stale: dict[bytes, bytes] = {}
        for uid, text in _rows(answer, 2):
            task = decode_or_none(text)
            if task is None or task.status != SCHEDULED:
                log.error("what is due under %s is no scheduled task; its due time is dropped", uid.decode())
                stale[uid] = text
            else:
                changes.append(Change(text, task, transitions.promoted(task)))
        if stale:
            self._wire.call(partition, STALE.call([self._due(partition), *stale], stale.values()))
        return sum(text is not None for text in self.move(changes))

    def is_my_turn(self, partition: int, duty: str, milliseconds: int) -> bool:
        """Only one asker gets a duty in so many milliseconds."""
        [answer] = self._wire.call(partition, ("SET", f"sandbox:{{{partition}}}:{duty}", 1, "NX", "PX", milliseconds))
        return answer is not None

    def backlog(self, queues: Iterable[str]) -> dict[str, Backlog]:
        """What waits, runs and is scheduled in these queues, and in any other that has tasks."""
        sizes: dict[str, dict[str, int]] = {queue: {} for queue in queues}
        oldest: dict[str, float] = {}
        for partition in range(self.partitions):
            places = (self._shelf(partition, ""), self._queue(partition, ""), self._returned(partition, ""))
            [[now, counts, heads]] = self._wire.call(
                partition, BACKLOG.call([self._shelves(partition)], (GROUP, *places))
            )
            for queue, status, count in _rows(counts, 3):
                size = sizes.setdefault(queue.decode(), {})
                size[status.decode()] = size.get(status.decode(), 0) + count
            for queue, queued_at in _rows(heads, 2):
                seconds = max(0, now - queued_at) / 1000
                oldest[queue.decode()] = max(seconds, oldest.get(queue.decode(), 0.0))
        return {
            queue: Backlog(
                depth=size.get(QUEUED, 0),
                running=size.get(RUNNING, 0),
                scheduled=size.get(SCHEDULED, 0),
                oldest=oldest.get(queue, 0.0),
            )
            for queue, size in sizes.items()
        }

    # --- health ----------------------------------------------------------------------------------

    def check(self) -> None:
        """Raises StoreUnavailable unless every partition can be written."""
        for partition in range(self.partitions):
            self._wire.call(partition, ("SET", f"sandbox:{{{partition}}}:ready", int(time.time()), "PX", 60_000))


def _document(text: bytes | None) -> Document | None:
    return Document(decode(text), text) if text else None


def _fetched(partition: int, streams: Sequence[str], answer: Sequence[Any]) -> list[Entry]:
    takes, *found = answer
    return [
        Entry(partition, streams[place - 1], entry.decode(), uid.decode(), text, takes)
        for place, entry, uid, text in _rows(found, 4)
    ]


def _portion(texts: Iterable[bytes | None]) -> int:
    """How many go into one command: as many as would fit if all were as long as the longest."""
    return max(1, PORTION_BYTES // max(map(len, filter(None, texts)), default=1))


def _mark_refused(
    stored: list[bytes | None], moves: Sequence[tuple[list[int], Command]], answers: Sequence[Sequence[int]]
) -> None:
    for (places, _), answer in zip(moves, answers, strict=True):
        for refused in answer:
            stored[places[refused - 1]] = None


def _rows(flat: Sequence[Any], width: int) -> Iterable[tuple[Any, ...]]:
    return zip(*[iter(flat)] * width, strict=True)


def _is_listed(task: Task, pointer: Position, only: Filter) -> bool:
    """A pointer of another moment is that of a task with the same key that has expired."""
    return moments.microseconds(task.created_at) == pointer.created and only.admits(task)


def _shelf_name(task: Task, status: str) -> str:
    return f"{task.type}:{task.queue}:{status}"
