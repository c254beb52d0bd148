"""The list of tasks: pages of it, and the sweep that removes pointers to expired documents.

Each document stands on one shelf: a sorted set for its type, queue and status, by creation time.
A page is merged from the newest of all shelves that the filter admits.
"""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec

from service.store import keys
from service.store.connection import Wire, rows
from service.store.documents import Document
from service.store.scripts import AGED, PLACE, SHELVES, SWEEP
from service.tasks import moments
from service.tasks.document import UNREADABLE, Task

PAGE_READS: Final = 1000
MANY: Final = 100  # where most of what is read may be left out of the page

PartitionOf = Callable[[str], int | None]
ReadMany = Callable[[Sequence[str]], list[Document | None]]


class Position(NamedTuple):
    """A place in the list, newest first: creation time in microseconds, then the UID."""

    created: int
    uid: str


class Filter(NamedTuple):
    type: str | None = None
    queue: str | None = None
    status: str | None = None
    created_by: str | None = None  # no shelf knows it: documents are read, and left out of the page

    @property
    def is_of_shelves(self) -> bool:
        """Shelves know all that it asks for."""
        return self.created_by is None and self.status != UNREADABLE

    def admits(self, task: Task) -> bool:
        return all(wanted in (None, getattr(task, name)) for name, wanted in zip(self._fields, self, strict=True))


EVERYTHING: Final = Filter()


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
        position, reads = after, 0
        at_once = limit + 1 if only.is_of_shelves else max(limit + 1, MANY)
        while True:
            pointers = self._pointers(at_once, position, only)
            if not pointers:
                return page, None
            reads += len(pointers)
            for pointer, document in zip(pointers, self._read([uid for _, uid in pointers]), strict=True):
                if len(page) == limit:
                    return page, position
                position = pointer
                if document and (task := self._as_listed(document, pointer)) and only.admits(task):
                    page.append(task)
            if reads >= PAGE_READS:
                return page, position

    def _pointers(self, count: int, after: Position | None, only: Filter) -> list[Position]:
        """The newest tasks that come after a position, from all shelves that the filter admits."""
        status = None if only.status == UNREADABLE else only.status  # of those, each stands where it was
        wanted = [part or "" for part in (only.type, only.queue, status)]
        found: list[Position] = []
        for group in self._groups:
            shelves = [keys.shelf(partition, "") for partition in group]
            command = SHELVES.call(_names(group), (*(after or ("", "")), count, *wanted, *shelves))
            [newest] = self._wire.call(group[0], command)
            found += (Position(int(created), uid.decode()) for uid, created in rows(newest, 2))
        return sorted(found, reverse=True)[:count]

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
