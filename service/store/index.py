"""The list of tasks: pages of it, and the sweep that removes pointers to expired documents.

Each document stands on one shelf: a sorted set for its type, queue and status, by creation time.
A page is merged from the newest of all shelves that the filter admits. Where documents have to be read for a filter, or
many pointers looked at, a page ends after a while: it is short, and says where it stopped.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec

from service.store import keys
from service.store.connection import Wire, rows
from service.store.documents import Document
from service.store.scripts import AGED, COUNT, PLACE, SHELVES, SWEEP
from service.store.selection import EVERYTHING, Filter, Position
from service.tasks import moments
from service.tasks.document import UNREADABLE, Task

PAGE_READS: Final = 5000
PAGE_SECONDS: Final = 0.06
MANY: Final = 100  # where most of what is read may be left out of the page
LOOKS: Final = 5000  # pointers that one script looks at: Redis does nothing else meanwhile

PartitionOf = Callable[[str], int | None]
ReadMany = Callable[[Sequence[str]], list[Document | None]]


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
        at_once = limit + 1 if only.is_of_shelves else max(limit + 1, MANY)
        reads, until = 0, time.monotonic() + PAGE_SECONDS
        position = after
        for found, stop in self._documents(at_once, after, only):
            for pointer, document in found:
                if len(page) == limit:
                    return page, position
                position = pointer
                if document and (task := self._as_listed(document, pointer)) and only.admits(task):
                    page.append(task)
            position = stop
            reads += len(found)
            if reads >= PAGE_READS or time.monotonic() > until:
                break
        return page, position

    def walk(self, only: Filter, after: Position | None) -> Iterator[tuple[list[Document], Position | None]]:
        """All documents that a filter admits, from newest to oldest, in batches; with each, where the next one begins.
        The last place is None.
        """
        for found, stop in self._documents(MANY, after, only):
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

    def _documents(
        self, at_once: int, after: Position | None, only: Filter
    ) -> Iterator[tuple[list[tuple[Position, Document | None]], Position | None]]:
        """What pointers lead to, batch by batch, and up to where each batch has looked: None at the end."""
        position = only.begin(after)
        while True:
            pointers, position = self._pointers(at_once, position, only)
            documents = self._read([uid for _, uid in pointers]) if pointers else []
            yield list(zip(pointers, documents, strict=True)), position
            if position is None:
                return

    def _pointers(self, count: int, after: Position | None, only: Filter) -> tuple[list[Position], Position | None]:
        """The newest tasks that come after a position, from all shelves that the filter admits; and up to where it has
        looked, None at the end.
        """
        status = () if UNREADABLE in only.status else only.status  # of those, each stands where it was
        since = "" if only.since is None else only.since
        wanted = map(_wanted, (only.type, only.queue, status))
        asked = (*(after or ("", "")), count, LOOKS, since, only.uid, *wanted)
        found: list[Position] = []
        stops: list[Position] = []
        for group in self._groups:
            shelves = [keys.shelf(partition, "") for partition in group]
            [answer] = self._wire.call(group[0], SHELVES.call(_names(group), (*asked, *shelves)))
            uid, created, *newest = answer
            if uid:
                stops.append(Position(int(created), uid.decode()))
            found += (Position(int(created), uid.decode()) for uid, created in rows(newest, 2))
        return _merged(found, max(stops, default=None), count)

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
            [gone] = self._wire.call(partition, SWEEP.call([shelf, keys.shelves(partition), *uids], [name]))
            places[shelf] = place + len(uids) - gone if len(uids) == count else 0
            removed += gone
        return removed


def _names(group: Sequence[int]) -> list[str]:
    return [keys.shelves(partition) for partition in group]


def _merged(found: list[Position], stop: Position | None, count: int) -> tuple[list[Position], Position | None]:
    """Of several groups, in which the looks ended at different places: no further than all of them have been seen."""
    newest = sorted([each for each in found if stop is None or each >= stop], reverse=True)
    return (newest, stop) if len(newest) <= count else (newest[:count], newest[count - 1])


def _wanted(names: Sequence[str]) -> str:
    return f":{':'.join(names)}:" if names else ""
