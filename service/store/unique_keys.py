"""Unique keys: who has one, and how tasks are created that want one (docs/unique.md).

The script that creates decides. It tells who has the key; what is to become of that one is decided here, by its
document, and holds only while the document is what was read (docs/store.md, Compare first).
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from service.errors import KeyHeld, StoreUnavailable
from service.store import keys
from service.store.connection import Wire, rows
from service.store.documents import Document, document
from service.store.keys import Partitions
from service.store.scripts import ABANDONED
from service.tasks import moments, transitions, unique
from service.tasks.document import CANCELLED, QUEUED, Task, Unique, encode
from service.tasks.unique import KEEP_LAST, REJECT, RETURN

TRIES: Final = 10
WIDTH: Final = 11  # arguments per task
OVER: Final = "over"
BEHIND: Final = "behind"


class Demand(NamedTuple):
    """What a new task wants of the one that has its key: its place, or to wait behind it. `ends` gives way for that."""

    wish: str
    holder: str
    waits: str  # the UID of the one that waits behind the holder, or ""
    ends: Document | None
    ended: Task | None


Demands = dict[str, Demand]  # by the UID of the new task


class Created(NamedTuple):
    """`tasks` are the new ones, or in their places those that have their keys. `present` is as Store.create says it."""

    tasks: list[Task]
    new: list[Task]
    present: list[Document | None]
    replaced: list[Task]


class UniqueKeys:
    def __init__(self, wire: Wire, partitions: Partitions, read: Callable[[str], Document | None]) -> None:
        self._wire = wire
        self._partitions = partitions
        self._read = read

    def home(self, task_type: str, key: Unique) -> int:
        """The partition that the key chooses: there, all tasks that want it lie."""
        return self._partitions.chosen(unique.lock(task_type, key))

    def holder(self, task: Task) -> Document | None:
        """Who has the task's key."""
        if task.unique is None:
            return None
        home = self._partitions.home(task.uid)
        [record] = self._wire.call(home, ("HGET", keys.unique(home), unique.lock(task.type, task.unique)))
        found = self._read(record.split()[0].decode()) if record else None
        return None if found is None or found.task.finished else found

    def refuse_held(self, task: Task) -> None:
        """Raises KeyHeld if another task has the key."""
        if (found := self.holder(task)) is not None and found.task.uid != task.uid:
            raise held(found)

    def look(self, partition: int, cursor: str, count: int) -> str:
        """Frees keys of tasks that have ended without it: a part of them. Returns where to go on; "0" at the end."""
        [answer] = self._wire.call(partition, ABANDONED.call([keys.unique(partition)], [cursor, count]))
        return str(answer.decode())


def create(try_to: Callable[[Sequence[Task], Demands], list[Any]], new: Sequence[Task]) -> Created:
    """Creates all of the tasks that are not answered by the one that has their key, or none of them. Raises KeyHeld."""
    plans: Demands = {}
    returned: dict[str, Document] = {}
    for _ in range(TRIES):
        wanted = [task for task in new if task.uid not in returned]
        answer = try_to(wanted, plans) if wanted else []
        if not answer or not isinstance(answer[0], int):
            return _created(new, wanted, answer, returned, plans)
        for place, *seen in rows(answer, 5):
            task = wanted[place - 1]
            _judge(task, new.index(task) if len(new) > 1 else None, *_documents(*seen), plans, returned)
    raise StoreUnavailable("the unique key went from task to task while this one was created")


def _documents(holder: bytes, text: bytes, waits: bytes, waits_text: bytes | None) -> tuple[Document, Document | None]:
    found = document(holder.decode(), text)
    assert found is not None  # the script has found it unfinished
    return found, document(waits.decode(), waits_text) if waits else None


def _judge(
    task: Task,
    index: int | None,
    holder: Document,
    waits: Document | None,
    plans: Demands,
    returned: dict[str, Document],
) -> None:
    """What the new task's rule says, now that another one has the key."""
    assert task.unique is not None
    rule = task.unique.on_conflict
    if rule == RETURN and holder.is_readable:
        returned[task.uid] = holder
        return
    gives_way = waits or (None if unique.has_started(holder.task) else holder)
    stands_behind = gives_way is not holder
    if (
        rule in (RETURN, REJECT)
        or not holder.is_readable
        or (gives_way is not None and not gives_way.is_readable)
        or (stands_behind and (task.status != QUEUED or (waits is None and rule != KEEP_LAST)))
    ):
        raise held(holder, index)
    ended = None
    if gives_way is not None:
        ended = transitions.replaced(gives_way.task, task.uid, moments.stamp(time.time()))
    wish = BEHIND if stands_behind else OVER
    plans[task.uid] = Demand(wish, holder.task.uid, waits.task.uid if waits else "", gives_way, ended)


def held(holder: Document, index: int | None = None) -> KeyHeld:
    place = "" if index is None else f"tasks[{index}]: "
    says = f"is {holder.task.status}" if holder.is_readable else "cannot be read; a purge removes it"
    return KeyHeld(f"{place}the task {holder.task.uid} has the same unique key, and {says}", holder.task.uid, index)


def _created(
    new: Sequence[Task], wanted: Sequence[Task], answer: list[Any], returned: dict[str, Document], plans: Demands
) -> Created:
    tasks = [returned[task.uid].task if task.uid in returned else task for task in new]
    if not answer:
        replaced = [plan.ended for task in wanted if (plan := plans.get(task.uid)) and plan.ended is not None]
        return Created(tasks, list(wanted), [], replaced)
    found = {task.uid: document(task.uid, text) for task, text in zip(wanted, answer, strict=True)}
    return Created(tasks, [], [returned.get(task.uid) or found.get(task.uid) for task in new], [])


def arguments(new: Sequence[Task], plans: Demands) -> list[Any]:
    """What the script that creates is told of unique keys; nothing where there are none."""
    told: list[Any] = []
    for place, task in enumerate(new, 1):
        if task.unique is None:
            continue
        told += (place, unique.lock(task.type, task.unique))
        plan = plans.get(task.uid)
        if plan is None:
            told += [""] * 9
            continue
        told += (plan.wish, plan.holder, plan.waits)
        if plan.ends is None or plan.ended is None:
            told += [""] * 6
            continue
        before = plan.ends.task
        left, joined = keys.shelf_name(before, before.status), keys.shelf_name(before, CANCELLED)
        created = moments.microseconds(before.created_at)
        told += (plan.ends.text, encode(plan.ended), left, joined, created, keys.lot_name(before))
    return told
