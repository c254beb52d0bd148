"""The queues: streams of entries, each with one consumer group.

An entry points at a document. Once fetched, it is pending for one consumer, until it is dropped, settled
or taken over. Its idle time is the lease.
"""

from collections.abc import Iterator, Sequence, Set
from typing import Any, Final, NamedTuple

from service.errors import StoreRefused
from service.store import keys
from service.store.connection import Command, Wire, rows
from service.store.keys import GROUP
from service.store.scripts import DROP, FETCH, RENEW, RETIRE, TAKE
from service.tasks.document import PRIORITIES

MOST_PENDING: Final = 1000
_NO_GROUP: Final = ("NOGROUP", "UNBLOCKED", "no such key")


class Entry(NamedTuple):
    """A queue entry that this consumer holds, with its document as read then."""

    partition: int
    stream: str
    id: str
    uid: str
    text: bytes | None
    takes: bytes = b""
    owner: str = ""


class Streams:
    """All streams of some queues in some partitions, in the order in which they are served: a queue's priorities one
    after the other, each in all partitions.
    """

    def __init__(self, partitions: Sequence[int], queues: Sequence[str], priorities: Sequence[str]) -> None:
        self.partitions = partitions
        self.partition_of = {
            name: partition
            for queue in queues
            for alike in zip(*[keys.streams(each, [queue], priorities) for each in partitions], strict=True)
            for partition, name in zip(partitions, alike, strict=True)
        }
        self.names = list(self.partition_of)
        self.news = [">"] * len(self.names)
        self._keys = [*map(keys.takes, partitions), *map(keys.pauses, partitions), *self.names]

    def fetch_command(self, consumer: str, count: int) -> Command:
        return FETCH.call(self._keys, (GROUP, consumer, count, len(self.partitions)))

    def fetched(self, answer: Sequence[Any]) -> list[Entry]:
        """The entries in the answer to that command."""
        takes = dict(zip(self.partitions, answer, strict=False))
        found = []
        for place, entry, uid, text in rows(answer[len(self.partitions) + 1 :], 4):
            stream = self.names[place - 1]
            partition = self.partition_of[stream]
            found.append(Entry(partition, stream, entry.decode(), uid.decode(), text, takes[partition]))
        return found

    def paused(self, answer: Sequence[Any]) -> frozenset[str]:
        """The queues that were passed over."""
        return frozenset(answer[len(self.partitions)].decode().split())


class Queues:
    def __init__(self, wire: Wire, groups: Sequence[Sequence[int]]) -> None:
        """In each group are partitions whose keys may stand in one command."""
        self._wire = wire
        self._group = {partition: tuple(group) for group in groups for partition in group}
        self._streams: dict[tuple[int, tuple[str, ...], tuple[str, ...]], Streams] = {}
        self._paused: dict[Sequence[int], frozenset[str]] = {}  # by group, as its last fetch has found it

    def fetch(
        self,
        partition: int,
        queues: Sequence[str],
        consumer: str,
        count: int,
        priorities: Sequence[str] = PRIORITIES,
    ) -> list[Entry]:
        """Waiting entries, at once; they are pending for the consumer from now on. They are of this partition, or of
        the others in its group, which come after it. Queues and priorities are asked in the order given.
        """
        streams = self.streams(partition, queues, priorities)
        [answer] = self._wire.call(partition, streams.fetch_command(consumer, count), once=True)
        return self.fetched(streams, answer)

    def fetched(self, streams: Streams, answer: Sequence[Any]) -> list[Entry]:
        """The entries. Which queues are paused is remembered for the next wait."""
        self._paused[self._group[streams.partitions[0]]] = streams.paused(answer)
        return streams.fetched(answer)

    @property
    def paused(self) -> bool:
        """Has the last fetch somewhere passed over a queue?"""
        return any(self._paused.values())

    def streams(self, partition: int, queues: Sequence[str], priorities: Sequence[str] = PRIORITIES) -> Streams:
        """Those of this partition and the others in its group, each queue's before the next one's."""
        key = (partition, tuple(queues), tuple(priorities))
        if key not in self._streams:
            self._streams[key] = Streams(self.group(partition), queues, priorities)
        return self._streams[key]

    def group(self, partition: int) -> Sequence[int]:
        """Its group, beginning with it: so each may come first in turn."""
        group = self._group[partition]
        place = group.index(partition)
        return (*group[place:], *group[:place])

    def wait(self, partition: int, queues: Sequence[str], consumer: str, count: int, seconds: float) -> list[Entry]:
        """Like fetch, but waits until there is something, and leaves out the documents.

        Redis applies COUNT to each stream. With several streams that have tasks, a large COUNT would return many tasks
        of a later queue together with those of an earlier one. So with several queues or partitions COUNT is 1.

        It leaves out what the last fetch has found to be paused, and then fetches at its end: the pause may be over.
        """
        if paused := self._paused.get(self._group[partition]):
            return self._wait_beside(paused, partition, queues, consumer, count, seconds)
        return self._wait(partition, queues, consumer, count, seconds)

    def _wait_beside(
        self, paused: Set[str], partition: int, queues: Sequence[str], consumer: str, count: int, seconds: float
    ) -> list[Entry]:
        others = [queue for queue in queues if queue not in paused]
        if others and (entries := self._wait(partition, others, consumer, count, seconds)):
            return entries
        if not others and seconds:
            block = ("BLOCK", int(seconds * 1000))
            self._wire.call(partition, ("XREAD", *block, "STREAMS", keys.resumed(partition), "$"), wait_seconds=seconds)
        return self.fetch(partition, queues, consumer, count)

    def _wait(self, partition: int, queues: Sequence[str], consumer: str, count: int, seconds: float) -> list[Entry]:
        streams = self.streams(partition, queues)
        each = count if len(streams.partitions) == len(queues) == 1 else 1
        block: Command = ("COUNT", each, "BLOCK", int(seconds * 1000)) if seconds else ("COUNT", each)
        command = ("XREADGROUP", "GROUP", GROUP, consumer, *block, "STREAMS", *streams.names, *streams.news)
        answer = self._of_group(partition, command, wait_seconds=seconds, once=True)
        if answer == ():  # a group is missing; a fetch makes it
            return self.fetch(partition, queues, consumer, count)
        return [
            Entry(streams.partition_of[stream.decode()], stream.decode(), entry.decode(), fields[1].decode(), None)
            for stream, entries in answer or ()
            for entry, fields in entries
        ]

    def _of_group(self, partition: int, command: Command, wait_seconds: float = 0, once: bool = False) -> Any:
        """The answer of a stream's group; () when there is no such group, as after all data have gone."""
        try:
            [answer] = self._wire.call(partition, command, wait_seconds=wait_seconds, once=once)
        except StoreRefused as error:
            if any(sign in str(error) for sign in _NO_GROUP):
                return ()
            raise
        return answer

    def take(
        self, stream: str, partition: int, consumer: str, *, dead: str = "", idle_ms: int, count: int
    ) -> list[Entry]:
        """Entries that a dead consumer holds (or any, if idle for so long), now pending for this one."""
        return self._take([partition], [stream], consumer, dead, idle_ms, count)

    def take_any(
        self, partition: int, queues: Sequence[str], consumer: str, *, dead: str = "", idle_ms: int, count: int
    ) -> list[Entry]:
        """The same, from all streams of this partition and the others in its group."""
        streams = self.streams(partition, queues)
        partitions = [streams.partition_of[name] for name in streams.names]
        return self._take(partitions, streams.names, consumer, dead, idle_ms, count)

    def clock(self, partition: int) -> float:
        """The time of day in Redis: idle times go by it."""
        [[seconds, microseconds]] = self._wire.call(partition, ("TIME",))
        return int(seconds) + int(microseconds) / 1e6

    def _take(
        self, partitions: Sequence[int], streams: Sequence[str], consumer: str, dead: str, idle_ms: int, count: int
    ) -> list[Entry]:
        names = [*map(keys.takes, partitions), *streams]
        [found] = self._wire.call(partitions[0], TAKE.call(names, (GROUP, consumer, dead, idle_ms, count)), once=True)
        return [
            Entry(partitions[place - 1], streams[place - 1], entry.decode(), uid.decode(), text, takes, owner.decode())
            for place, takes, entry, uid, text, owner in rows(found, 6)
        ]

    def renew(self, partition: int, consumer: str, entries: Sequence[Entry]) -> set[Entry]:
        """Refreshes the leases. Returns the entries that the consumer still holds."""
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

    def give_back(self, consumer: str, entries: Sequence[Entry]) -> None:
        """They are pending for this consumer again."""
        for entry in entries:
            self._wire.call(entry.partition, ("XCLAIM", entry.stream, GROUP, consumer, 0, entry.id, "JUSTID"))

    def pending(self, stream: str, partition: int, consumer: str) -> list[Entry]:
        """What a consumer holds, without the documents."""
        found = self._of_group(partition, ("XPENDING", stream, GROUP, "-", "+", MOST_PENDING, consumer))
        ids = [entry for entry, *_ in found]
        ranges = self._wire.call(partition, *[("XRANGE", stream, each, each) for each in ids]) if ids else []
        return [
            Entry(partition, stream, entry.decode(), fields[1].decode(), None, owner=consumer)
            for [*entries] in ranges
            for entry, fields in entries
        ]

    def drop(self, consumer: str, entries: Sequence[Entry]) -> list[Entry]:
        """Removes stale entries, each only while its document is what was read. Returns the entries that stay."""
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

    def at_work(self, partition: int, queues: Sequence[str], *, idle_ms: int) -> set[str]:
        """The consumers that hold something, or have not been silent for so long."""
        return {
            name
            for name, consumer in self._consumers(partition, queues)
            if consumer[b"pending"] or consumer[b"idle"] < idle_ms
        }

    def _consumers(self, partition: int, queues: Sequence[str]) -> Iterator[tuple[str, dict[bytes, Any]]]:
        """A consumer comes once for each stream that knows it."""
        for stream in keys.streams(partition, queues):
            for fields in self._of_group(partition, ("XINFO", "CONSUMERS", stream, GROUP)):
                consumer = dict(rows(fields, 2))
                yield consumer[b"name"].decode(), consumer

    def retire(self, partition: int, queues: Sequence[str], consumer: str) -> bool:
        """Forgets a consumer, unless something is pending for it."""
        [forgotten] = self._wire.call(partition, RETIRE.call(keys.streams(partition, queues), (GROUP, consumer)))
        return bool(forgotten)

    def retire_silent(self, partition: int, queues: Sequence[str], *, idle_ms: int) -> None:
        """Forgets consumers that have asked for nothing for so long, unless something is pending for them."""
        idle: dict[str, int] = {}
        for name, consumer in self._consumers(partition, queues):
            idle[name] = min(idle.get(name, consumer[b"idle"]), consumer[b"idle"])
        for name in idle:
            if idle[name] >= idle_ms:
                self.retire(partition, queues, name)
