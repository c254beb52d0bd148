"""The list of tasks: pages of it, and the sweep that removes pointers to expired documents.

Each document stands on one shelf: a sorted set for its type, queue and status, by creation time.
A page is merged from the newest of all shelves that the filter admits. Where documents have to be read for a filter, or
many pointers looked at, a page ends after a while: it is short, and says where it stopped.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from service.store import keys
from service.store.connection import Script, Wire, rows
from service.store.connection.commands import Argument
from service.store.documents import Document
from service.store.scripts import AGED, COUNT, PLACE, SCAN, SHELVES, SWEEP
from service.store.selection import EVERYTHING, Filter, Position
from service.tasks import moments
from service.tasks.document import Task

PAGE_SECONDS: Final = 0.06
PAGE_READS: Final = 1000  # so many a page may take in any case, where shelves know all that is asked for
PAGE_BYTES: Final = 4 * 1024 * 1024  # of documents, after which a page ends: a worker has many clients
READ_FIRST: Final = 20  # documents, which tell how large the others may be
READ_AT_ONCE: Final = 100
MANY: Final = 1000  # pointers, where most of what they lead to may be left out
LOOKS: Final = 20_000  # pointers that one script may look at to find a UID: Redis does nothing else meanwhile
FIRST_UID: Final = "0" * 64
LAST_UID: Final = "g"

PartitionOf = Callable[[str], int | None]
ReadMany = Callable[[Sequence[str]], list[Document | None]]
Looked = tuple[list[Position], Position | None]  # pointers, and up to where has been looked: None at the end
Look = Callable[[int, Position | None, Filter], Looked]
Batch = tuple[list[tuple[Position, Document | None]], Position | None]


class Index:
    def __init__(self, wire: Wire, groups: Sequence[Sequence[int]], partition: PartitionOf, read: ReadMany) -> None:
        self._wire = wire
        self._groups = groups
        self._partition = partition
        self._read = read

    def page(
        self, *, limit: int, after: Position | None = None, only: Filter = EVERYTHING
    ) -> tuple[list[Task], Position | None]:
        """Tasks from newest to oldest, and where the next page begins."""
        page: list[Task] = []
        size, reads, until = 0, 0, time.monotonic() + PAGE_SECONDS
        at_least = PAGE_READS if only.is_of_shelves else 0
        position = after
        for found, stop in self._documents(self._pages if only.is_of_shelves else self._scan, limit + 1, after, only):
            for pointer, document in found:
                if len(page) == limit or size > PAGE_BYTES:
                    return page, position
                position = pointer
                if document and (task := self._as_listed(document, pointer)) and only.admits(task):
                    page.append(task)
                    size += len(document.text)
            position = stop
            reads += len(found)
            if reads >= at_least and time.monotonic() > until:
                break
        return page, position

    def walk(self, only: Filter, after: Position | None) -> Iterator[tuple[list[Document], Position | None]]:
        """All documents that a filter admits, from newest to oldest, in batches; with each, where the next one begins.
        The last place is None.
        """
        for found, stop in self._documents(self._scan, 0, after, only):
            listed = [
                Document(task, document.text)
                for pointer, document in found
                if document and (task := self._as_listed(document, pointer)) and only.admits(task)
            ]
            yield listed, stop

    def count(self, only: Filter, *, but: Sequence[str] = ()) -> int:
        """How many tasks a filter admits of which shelves know all. `but`: types that are left out."""
        oldest = "-inf" if only.since is None else only.since
        before = only.begin(None)
        newest = "+inf" if before is None else f"({before.created}"
        wanted = [*map(_wanted, (only.type, only.queue, only.status)), _wanted(but)]
        counted = 0
        for group in self._groups:
            shelves = [keys.shelf(partition, "") for partition in group]
            [number] = self._wire.call(group[0], COUNT.call(_names(group), (oldest, newest, *wanted, *shelves)))
            counted += number
        return counted

    def _documents(self, look: Look, count: int, after: Position | None, only: Filter) -> Iterator[Batch]:
        """What pointers lead to, batch by batch, and up to where each batch has looked: None at the end."""
        position = only.begin(after)
        while True:
            pointers, position = look(count, position, only)
            at_once = READ_FIRST
            while True:
                batch, pointers = pointers[:at_once], pointers[at_once:]
                documents = self._read([uid for _, uid in batch]) if batch else []
                yield list(zip(batch, documents, strict=True)), batch[-1] if pointers else position
                if not pointers:
                    break
                is_light = sum(len(each.text) for each in documents if each) < PAGE_BYTES // READ_FIRST
                at_once = READ_AT_ONCE if is_light else READ_FIRST
            if position is None:
                return

    def _pages(self, count: int, after: Position | None, only: Filter) -> Looked:
        """The newest that come after a position, from all shelves that the filter admits."""
        found: list[Position] = []
        for answer in self._asked(SHELVES, (*(after or ("", "")), count), only, ()):
            found += (Position(int(created), uid.decode()) for uid, created in rows(answer, 2))
        newest = sorted(found, reverse=True)[:count]
        return newest, newest[-1] if len(newest) == count else None

    def _scan(self, _: int, after: Position | None, only: Filter) -> Looked:
        """The same, many at once; of several groups no further than all of them have been seen."""
        found: list[Position] = []
        stops: list[Position] = []
        many = LOOKS if only.uid else MANY
        for stop, *answer in self._asked(SCAN, (*(after or ("", "")), many), only, (only.uid,)):
            found += (Position(int(created), uid.decode()) for uid, created in rows(answer, 2))
            if stop:
                stops.append(Position(int(stop), FIRST_UID))
        stop = max(stops, default=None)
        if stop is not None and after is not None and stop.created >= after.created and not found:
            stop = Position(after.created - 1, LAST_UID)  # more lies at this one moment than a look takes
        return sorted([each for each in found if stop is None or each >= stop], reverse=True), stop

    def _asked(self, script: Script, begin: Sequence[Argument], only: Filter, further: Sequence[str]) -> Iterator[Any]:
        """The answer of each group of partitions."""
        since = "" if only.since is None else only.since
        asked = (*begin, since, *further, *map(_wanted, (only.type, only.queue, only.shelved)))
        for group in self._groups:
            shelves = [keys.shelf(partition, "") for partition in group]
            [answer] = self._wire.call(group[0], script.call(_names(group), (*asked, *shelves)))
            yield answer

    def _as_listed(self, document: Document, pointer: Position) -> Task | None:
        """A pointer with another creation time belongs to an expired task that had the same UID."""
        task = document.task
        if not document.is_readable:
            return self.placed(task)
        return task if moments.microseconds(task.created_at) == pointer.created else None

    def placed(self, unreadable: Task) -> Task:
        """With what its shelf says of it: type, queue, and when it was created."""
        partition = self._partition(unreadable.uid)
        if partition is None:
            return unreadable
        command = PLACE.call([keys.shelves(partition)], (keys.shelf(partition, ""), unreadable.uid))
        [place] = self._wire.call(partition, command)
        if not place:
            return unreadable
        task_type, queue, _ = place[0].decode().rsplit(":", 2)
        created_at = moments.stamp_exactly(int(place[1]))
        return msgspec.structs.replace(unreadable, type=task_type, queue=queue, created_at=created_at)

    def sweep(self, group: Sequence[int], *, created_before: int, count: int, places: dict[str, int]) -> int:
        """Removes pointers to expired documents: one batch of each shelf of these partitions. Returns how many.

        Only a task created before `created_before` can have expired. `places` remembers for the caller where the next
        batch of each shelf begins; after the last one it begins anew at the oldest task.
        """
        removed = 0
        command = AGED.call(_names(group), (created_before, *[keys.shelf(partition, "") for partition in group]))
        [aged] = self._wire.call(group[0], command)
        for number, name in sorted(rows(aged, 2)):
            partition = group[number - 1]
            shelf = keys.shelf(partition, name.decode())
            place = places.get(shelf, 0)
            # Redis finds a rank at once, at any depth. With BYSCORE and LIMIT it would walk over all that is skipped.
            [found] = self._wire.call(partition, ("ZRANGE", shelf, place, place + count - 1, "WITHSCORES"))
            uids = [uid for uid, created in rows(found, 2) if int(created) < created_before]
            beside = [name, keys.log(partition, ""), keys.attempts(partition, "")]
            [gone] = self._wire.call(partition, SWEEP.call([shelf, keys.shelves(partition), *uids], beside))
            places[shelf] = place + len(uids) - gone if len(uids) == count else 0
            removed += gone
        return removed


def _names(group: Sequence[int]) -> list[str]:
    return [keys.shelves(partition) for partition in group]


def _wanted(names: Sequence[str]) -> str:
    return f":{':'.join(names)}:" if names else ""
