"""Changes of documents, and the commands that make them.

Changes that share both shelves and a stream go into one command. Commands that would be too long for a slow
network are sent in portions.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from service.store import keys
from service.store.connection import Command
from service.store.documents import Document
from service.store.keys import GROUP, Partitions
from service.store.queues import Entry
from service.store.scripts import CANCEL, MOVE
from service.tasks import attempts, moments, unique
from service.tasks.document import CANCELLED, FINISHED, QUEUED, RUNNING, SCHEDULED, SUCCEEDED, Task, encode
from service.tasks.limit_rule import is_set

MOST_ATTEMPTS: Final = 100
PLAIN_REVISION: Final = 4  # scheduled, queued, running, succeeded
PORTION_BYTES: Final = 2 * 1024 * 1024  # what even a slow network carries before an answer is overdue


class Change(NamedTuple):
    """A transition to be stored: the text that was read, the task before and after, the entry."""

    text: bytes
    before: Task
    after: Task
    entry: Entry | None = None
    has_log: bool = False  # the attempt that ends has said something
    event_id: str | None = None  # of a crash that no document tells of
    asked: str = ""  # places of limits that a claim asks for


class Moved(NamedTuple):
    """What became of changes, each in the order in which they were given."""

    stored: list[tuple[Change, Document]]
    refused: list[Change]
    paused: Sequence[
        Change
    ] = ()  # claims of what is paused, held up, or waits behind another: the tasks wait again, and the entries are gone


class Move(NamedTuple):
    """One command, and the places of the changes that it makes."""

    places: list[int]
    command: Command


class Batch:
    def __init__(
        self,
        changes: Sequence[Change],
        partitions: Partitions,
        retention_ms: int,
        consumer: str = "",
        asked: Callable[[int, Task], str] | None = None,
    ) -> None:
        """`asked`: which places of limits a task asks for; None where no type names a limit."""
        self._changes = changes
        self._asked = asked
        self._retention_ms = retention_ms
        self._consumer = consumer
        self._texts = [encode(change.after) for change in changes]
        self._portion = _portion(self._texts)
        self._refused: set[int] = set()
        self._paused: set[int] = set()
        self._bounds: dict[int, str] = {}
        self.moves = self._by_partition(partitions)

    @property
    def is_small(self) -> bool:
        """It may be sent whole, in one round trip for each partition."""
        return len(self._changes) <= self._portion

    def note(self, moves: Sequence[Move], answers: Sequence[Sequence[int]]) -> None:
        """The answers of the script: what it refused, and what is paused."""
        for move, answer in zip(moves, answers, strict=True):
            self._refused.update([move.places[number - 1] for number in answer if number > 0])
            self._paused.update([move.places[-number - 1] for number in answer if number < 0])

    def moved(self) -> Moved:
        both = zip(self._changes, self._texts, strict=True)
        documents = [(change, Document(change.after, text)) for change, text in both]
        if not self._refused and not self._paused:
            return Moved(documents, [])
        left = self._refused | self._paused
        stored = [made for place, made in enumerate(documents) if place not in left]
        return Moved(stored, self._at(self._refused), self._at(self._paused))

    def _at(self, places: set[int]) -> list[Change]:
        return [self._changes[place] for place in sorted(places)]

    def _by_partition(self, partitions: Partitions) -> dict[int, list[Move]]:
        groups: dict[tuple[Any, ...], list[int]] = {}
        for place, change in enumerate(self._changes):
            _, before, after, entry, has_log, _, asked = change
            stream = entry.stream if entry else None
            home = entry.partition if entry else partitions.home(before.uid)
            takes = entry.takes if entry and self._consumer else None
            group = (
                home,
                before.type,
                before.queue,
                before.status,
                after.status,
                after.priority,
                stream,
                takes,
                _expires_otherwise(before, after, has_log),
                (asked or self._asked or (before.claim and before.claim.places)) and self._bounded(place, home),
            )
            try:
                groups[group].append(place)
            except KeyError:
                groups[group] = [place]
        moves: dict[int, list[Move]] = {}
        for (partition, *_, otherwise, act), alike in groups.items():
            for start in range(0, len(alike), self._portion):
                places = alike[start : start + self._portion]
                moves.setdefault(partition, []).append(
                    Move(places, self._command(partition, places, otherwise, act or ""))
                )
        return moves

    def _bounded(self, place: int, home: int) -> str:
        """What becomes of the places of limits that a change is about: they are noted."""
        change = self._changes[place]
        _, before, after, *_ = change
        if before.claim is not None and after.status != RUNNING:
            if not before.claim.places:
                return ""
            self._bounds[place] = " ".join(before.claim.places)
            return "leave" if after.status != QUEUED else "unstarted" if after.attempt < before.attempt else "back"
        if change.asked:
            self._bounds[place] = change.asked
            return "claim"
        if after.status == QUEUED and self._asked is not None and is_set(asked := self._asked(home, after)):
            self._bounds[place] = asked
            return "join"
        return ""

    def _command(self, partition: int, places: Sequence[int], otherwise: Any, act: str) -> Command:
        _, before, after, entry, *_ = self._changes[places[0]]
        joined, lot = keys.shelf_name(after, after.status), keys.lot_name(before)
        names = [
            keys.shelf(partition, keys.shelf_name(before, before.status)),
            keys.shelf(partition, joined),
            keys.shelves(partition),
            keys.due(partition),
            entry.stream if entry else keys.due(partition),
            _waits_in(partition, after, entry),
            keys.takes(partition),
            keys.pauses(partition),
            keys.lots(partition),
            keys.lot(partition, lot),
        ]
        ttl = self._retention_ms if after.finished else ""
        takes = entry.takes if entry else b""
        channel = keys.changes(partition)
        now = time.time_ns() // 1000 if after.status == SCHEDULED else ""
        arguments: list[Any] = [
            GROUP, joined, before.status, after.status, self._consumer, takes, ttl, channel, now, lot
        ]  # fmt: skip
        arguments += (otherwise, keys.log(partition, ""), keys.attempts(partition, ""), MOST_ATTEMPTS)
        arguments += (keys.base(partition), act, keys.line(partition, after.queue, after.priority) if act else "")
        unique_keys: list[Any] = []
        for number, place in enumerate(places, 1):
            change = self._changes[place]
            if change.before.unique is not None and (effect := unique.effect(change.before, change.after)):
                mark = "?" if effect == unique.ASKS else ""
                unique_keys += (-number, mark + unique.lock(before.type, change.before.unique))
            names.append(change.before.uid)
            arguments += (
                change.text,
                self._texts[place],
                moments.microseconds(change.before.created_at),
                change.entry.id if change.entry else "",
                moments.microseconds(change.after.run_at) if now and change.after.run_at else "",
            )
        if act:
            arguments += [self._bounds[place] for place in places]
        arguments += self._ended(places)
        if unique_keys:
            arguments += (0, keys.unique(partition), *unique_keys)
        script = CANCEL if after.status == CANCELLED else MOVE
        return script.call(names, arguments)

    def _ended(self, places: Sequence[int]) -> list[Any]:
        """The attempts of which no document tells any more, each behind its place in the command."""
        found: list[Any] = []
        first = self._changes[places[0]]
        if first.before.status not in (RUNNING, *FINISHED) or first.after.finished:
            return found
        now = moments.stamp(time.time())
        for number, place in enumerate(places, 1):
            change = self._changes[place]
            if attempt := attempts.ended(change.before, change.after, now, change.event_id):
                found += (number, attempts.encode(attempt))
        return found


def _expires_otherwise(before: Task, after: Task, has_log: bool) -> Any:
    """1 where a log or earlier attempts may lie beside a document that begins or ceases to expire, else an empty text.

    None do beside a first attempt that said nothing, of a task that was only scheduled, queued, running, succeeded.
    """
    if after.status == SUCCEEDED:
        return 1 if has_log or after.attempt > 1 or after.revision > PLAIN_REVISION else ""
    return 1 if after.status != RUNNING and (after.finished or before.finished) else ""


def _waits_in(partition: int, task: Task, entry: Entry | None) -> str:
    """What is handed back comes before all that waits."""
    return keys.returned(partition, task.queue) if entry else keys.line(partition, task.queue, task.priority)


def _portion(texts: Iterable[bytes]) -> int:
    """How many go into one command: as many as would fit if all were as long as the longest."""
    return max(1, PORTION_BYTES // max(map(len, texts), default=1))
