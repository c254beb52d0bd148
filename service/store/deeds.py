"""Retries or cancels all tasks that a filter admits, in batches. The deed itself is a task, and knows how far it is.

What it must not touch it finds out from the very document that it changes: a script changes that document only while it
is the text that was judged. It may be cut short at any moment, and done again:

- It touches nothing that was created after the deed, so neither itself nor what comes in meanwhile.
- It retries nothing that has ended after the deed was wished, so nothing twice.
- What it has changed it tells at once. After each batch it writes down where it is. A run that was cut short goes on
  there; the numbers of the batch that was under way may be missing from its result.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from service.errors import StoreUnavailable
from service.store.documents import Document
from service.store.keys import by_partition
from service.store.moves import Change
from service.store.selection import Filter, Position
from service.store.store import Store
from service.tasks.declare import ON_MANY
from service.tasks.document import CANCELLED, FAILED, QUEUED, RUNNING, SCHEDULED, Task, encode
from service.tasks.transitions import NOT_AGAIN

RETRIED: Final = (FAILED, CANCELLED)
CANCELLED_ONES: Final = (SCHEDULED, QUEUED, RUNNING)
TRIES: Final = 5
COUNT_SECONDS: Final = 0.5
CHANGED_MEANWHILE: Final = "changed meanwhile"
KEY_IS_HELD: Final = "another task has the unique key"
IS_A_DEED: Final = "acts on many tasks itself"
IS_ASKED_ANEW: Final = "is asked for anew, not retried"

Transition = Callable[[Task], Task]
Tell = Callable[[Sequence[Task]], None]

_encode = msgspec.json.Encoder().encode


class Done(msgspec.Struct):
    """How far a deed is."""

    changed: int = 0
    left_out: dict[str, int] = {}
    seen: int = 0
    total: int | None = None
    at: Position | None = None
    over: bool = False

    def leave_out(self, reason: str, number: int) -> None:
        if number:
            self.left_out[reason] = self.left_out.get(reason, 0) + number


_decode = msgspec.json.Decoder(Done).decode


class Deed:
    """One act on many tasks. `kinds` are the statuses that it changes."""

    def __init__(self, store: Store, task: Task, only: Filter, kinds: tuple[str, ...]) -> None:
        self._store = store
        self._uid = task.uid
        self._kinds = kinds
        self._wished_at = task.created_at
        self._only = _narrowed(only, kinds, task.created_at)

    def go_on(self, transition: Transition, tell: Tell) -> Iterator[Done]:
        """From where it was left. First, and after each batch: how far it is. `tell` hears of what is changed before
        anything else can fail.
        """
        noted = self._store.noted(self._uid)
        done = _decode(noted) if noted else Done(total=self._total())
        yield done
        if done.over:
            return
        for batch, position in self._store.index.walk(self._only, done.at):
            self._change(batch, transition, done, tell)
            done.at = position
            done.seen += len(batch)
            done.over = done.at is None
            self._store.note(self._uid, _encode(done))
            yield done

    def _total(self) -> int | None:
        number, more = matched(self._store, self._only, self._kinds, self._wished_at)
        return None if more else number

    def _change(self, batch: Sequence[Document], transition: Transition, done: Done, tell: Tell) -> None:
        for _ in range(TRIES):
            changes = [change for each in batch if (change := self._judged(each, transition, done))]
            try:
                moved = self._store.move(changes)
            except StoreUnavailable:  # maybe of one partition among others
                self._tell_what_is_stored(changes, tell)
                raise
            tell([document.task for _, document in moved.stored])
            now, stored = self._now(moved.refused)
            tell(stored)  # only the answer was lost
            done.changed += len(moved.stored) + len(stored)
            batch = [each for each in now if each is not None and self._only.admits(each.task)]
            done.leave_out(CHANGED_MEANWHILE, len(moved.refused) - len(stored) - len(batch))
            if not batch:
                return
        done.leave_out(CHANGED_MEANWHILE, len(batch))

    def _tell_what_is_stored(self, changes: Sequence[Change], tell: Tell) -> None:
        """As far as the partitions answer."""
        for some in by_partition(changes, lambda change: self._store.partition(change.before.uid)).values():
            with suppress(StoreUnavailable):
                tell(self._now(some)[1])

    def _now(self, changes: Sequence[Change]) -> tuple[list[Document | None], list[Task]]:
        """The documents as they are, and those of which are what was to be stored."""
        now = self._store.read_many([change.before.uid for change in changes])
        return now, [change.after for change, each in zip(changes, now, strict=True) if _is_stored(change, each)]

    def _judged(self, document: Document, transition: Transition, done: Done) -> Change | None:
        if reason := self._why_not(document.task):
            done.leave_out(reason, 1)
            return None
        return Change(document.text, document.task, transition(document.task))

    def _why_not(self, task: Task) -> str | None:
        if task.status not in self._kinds:
            return task.status
        if task.type in ON_MANY:
            return IS_A_DEED
        if self._kinds == RETRIED and task.type in NOT_AGAIN:
            return IS_ASKED_ANEW
        if task.finished and self._store.unique_keys.holder(task) is not None:
            return KEY_IS_HELD
        if task.finished_at is not None and task.finished_at > self._wished_at:
            return CHANGED_MEANWHILE
        return None


def retry(store: Store, task: Task, only: Filter) -> Deed:
    return Deed(store, task, only, RETRIED)


def cancel(store: Store, task: Task, only: Filter) -> Deed:
    return Deed(store, task, only, CANCELLED_ONES)


def matched(store: Store, only: Filter, kinds: tuple[str, ...], now: str) -> tuple[int, bool]:
    """How many tasks a deed would look at now, and whether there are more: documents are read for a while only."""
    only = _narrowed(only, kinds, now)
    if only.is_of_shelves:
        return store.index.count(only, but=ON_MANY), False
    found, until = 0, time.monotonic() + COUNT_SECONDS
    for batch, position in store.index.walk(only, None):
        found += sum(document.task.type not in ON_MANY for document in batch)
        if time.monotonic() > until:
            return found, position is not None
    return found, False


def _is_stored(change: Change, now: Document | None) -> bool:
    return now is not None and now.text == encode(change.after)


def _narrowed(only: Filter, kinds: tuple[str, ...], moment: str) -> Filter:
    """Nothing that was created at that moment or later. No status means those that can be changed."""
    before = moment if only.created_before is None else min(moment, only.created_before)
    return msgspec.structs.replace(only, status=only.status or kinds, created_before=before)
