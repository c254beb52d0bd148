"""Clients that wait for a task to finish: `Prefer: wait=N` (RFC 7240).

A waiter joins, and then reads its document once: so it sees what happened before. Of what happens later the store's
wake-ups tell (store/wakeups.py): then the document is read, and the waiter wakes if its task has finished.

Threads and greenlets alike: the worker patches `threading`.
"""

import re
import threading
from collections.abc import Callable, Sequence
from copy import copy
from typing import Final

from service.store import Document, Wakeups, document
from service.tasks.document import FINISHED

LONGEST_SECONDS: Final = 60

PREFERENCE: Final = re.compile(r'(?:^|[,;])\s*wait\s*=\s*"?([0-9]{1,9})"?\s*(?=[,;]|$)', re.IGNORECASE)

ReadTexts = Callable[[Sequence[str]], list[bytes | None]]


def preferred_seconds(prefer: str | None) -> int | None:
    found = PREFERENCE.search(prefer) if prefer else None
    return min(int(found[1]), LONGEST_SECONDS) if found else None


class Waiter:
    """One waiting client. Any thread may read its document and set the fields; the client wakes and looks at them."""

    def __init__(self, uid: str) -> None:
        self.uid = uid
        self.document: Document | None = None
        self.failure: Exception | None = None
        self.over = threading.Event()

    def see(self, found: Document | None) -> None:
        """The wait also ends when the document has gone, or cannot be read."""
        if found is None:
            self.over.set()
        elif found.task.finished or not found.is_readable:
            self.document = found
            self.over.set()

    def fail(self, failure: Exception) -> None:
        self.failure = failure
        self.over.set()


class Waiting:
    def __init__(
        self, texts: ReadTexts, partition: Callable[[str], int | None], wakeups: Wakeups, *, limit: int
    ) -> None:
        self._texts = texts
        self._partition = partition
        self._wakeups = wakeups
        self._limit = limit
        self._lock = threading.Lock()
        self._waiters: dict[int, dict[str, set[Waiter]]] = {}  # by partition and UID
        self.count = 0
        self._released = False

    def wait(self, uid: str, found: Document, seconds: float) -> Document | None:
        """The document when it has finished, or as it is after so long; at once where no more may wait."""
        partition = self._partition(uid)
        if found.task.finished or not found.is_readable or seconds <= 0 or partition is None:
            return found
        waiter = Waiter(uid)
        if not self._join(partition, waiter):
            return found
        try:
            self._look([waiter])
            waiter.over.wait(seconds)
        finally:
            self._leave(partition, waiter)
        if waiter.failure is not None:
            raise copy(waiter.failure) from waiter.failure  # each client's own, with its own way here
        return waiter.document or self._as_it_is_now(uid)

    def _as_it_is_now(self, uid: str) -> Document | None:
        [text] = self._texts([uid])
        return document(uid, text)

    def leave_room(self, most: int) -> None:
        """For clients that do not wait: this process can hold so many in all."""
        self._limit = min(self._limit, most)

    def release(self) -> None:
        """The process is about to stop: all clients are answered now, and no other may wait."""
        with self._lock:
            self._released = True
            waiting = [waiter for partition in self._waiters for waiter in self._all(partition)]
        for waiter in waiting:
            waiter.over.set()

    # --- who waits -----------------------------------------------------------------------------

    def _join(self, partition: int, waiter: Waiter) -> bool:
        with self._lock:
            if self._released or self.count >= self._limit:
                return False
            if partition not in self._waiters:
                self._wakeups.follow(partition, self)  # first: if it fails, nothing is to be undone
                self._waiters[partition] = {}
            self._waiters[partition].setdefault(waiter.uid, set()).add(waiter)
            self.count += 1
        return True

    def _leave(self, partition: int, waiter: Waiter) -> None:
        with self._lock:
            self.count -= 1
            waiters = self._waiters[partition]
            waiters[waiter.uid].discard(waiter)
            if not waiters[waiter.uid]:
                del waiters[waiter.uid]
            if not waiters:
                del self._waiters[partition]
                self._wakeups.unfollow(partition, self)

    def _all(self, partition: int) -> list[Waiter]:
        return [waiter for together in self._waiters.get(partition, {}).values() for waiter in together]

    # --- what the wake-ups tell ----------------------------------------------------------------

    def changed(self, partition: int, status: str, uids: Sequence[str]) -> None:
        if status in FINISHED:
            with self._lock:
                known = self._waiters.get(partition, {})
                waiting = [waiter for uid in uids for waiter in known.get(uid, ())]
            self._look(waiting)

    def look(self, partition: int) -> None:
        with self._lock:
            waiting = self._all(partition)
        self._look(waiting)

    def _look(self, waiting: Sequence[Waiter]) -> None:
        """A failure goes to the clients that it concerns; the thread of the wake-ups goes on."""
        if not waiting:
            return
        uids = list({waiter.uid for waiter in waiting})  # many may wait for one task
        try:
            found = {uid: document(uid, text) for uid, text in zip(uids, self._texts(uids), strict=True)}
        except Exception as error:
            for waiter in waiting:
                waiter.fail(error)
            return
        for waiter in waiting:
            waiter.see(found[waiter.uid])
