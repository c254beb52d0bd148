"""Clients that wait for a task to finish: `Prefer: wait=N` (RFC 7240).

One watcher in the process asks Redis for all awaited documents that are due for a look, in one round
trip for each partition, and wakes who waits for one that has finished. A task is looked at every 5 ms while its waiter
is young, and ever less often up to every 100 ms: a long wait costs little, a short one loses little.

Threads and greenlets alike: the worker patches `threading`.
"""

import re
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from typing import Final

from service.store import Document
from service.tasks.document import decode

LONGEST_SECONDS: Final = 60
SHORTEST_PAUSE: Final = 0.005
LONGEST_PAUSE: Final = 0.1
PAUSE_BY_AGE: Final = 0.1

PREFERENCE: Final = re.compile(r'(?:^|[,;])\s*wait\s*=\s*"?([0-9]{1,9})"?\s*(?=[,;]|$)', re.IGNORECASE)

ReadTexts = Callable[[Sequence[str]], list[bytes | None]]


def preferred_seconds(prefer: str | None) -> int | None:
    found = PREFERENCE.search(prefer) if prefer else None
    return min(int(found[1]), LONGEST_SECONDS) if found else None


class Waiter:
    """One client. The watcher writes, the client reads when it is woken or its time is over."""

    def __init__(self, uid: str, partition: int | None, document: Document) -> None:
        self.uid = uid
        self.partition = partition
        self.document: Document | None = document
        self.failure: Exception | None = None
        self.over = threading.Event()
        self.since = time.monotonic()
        self.next_look = self.since + SHORTEST_PAUSE

    def see(self, text: bytes | None, now: float) -> None:
        self.next_look = now + min(max(SHORTEST_PAUSE, (now - self.since) * PAUSE_BY_AGE), LONGEST_PAUSE)
        if text is None:
            self.document = None
            self.over.set()
        elif self.document is None or text != self.document.text:
            self.document = Document(decode(text), text)
            if self.document.task.finished:
                self.over.set()

    def fail(self, failure: Exception) -> None:
        self.failure = failure
        self.over.set()


class Waiting:
    def __init__(self, texts: ReadTexts, partition: Callable[[str], int | None], *, limit: int) -> None:
        self._texts = texts
        self._partition = partition
        self._limit = limit
        self._lock = threading.Lock()
        self._waiters: set[Waiter] = set()
        self._watching = False
        self._released = False

    def wait(self, uid: str, document: Document, seconds: float) -> Document | None:
        """The document when it has finished, or as it is after so long; at once where no more may wait."""
        waiter = Waiter(uid, self._partition(uid), document)
        if document.task.finished or seconds <= 0 or not self._join(waiter):
            return document
        try:
            waiter.over.wait(seconds)
        finally:
            with self._lock:
                self._waiters.discard(waiter)
        if waiter.failure is not None:
            raise copy(waiter.failure) from waiter.failure  # each client's own, with its own way here
        return waiter.document

    def leave_room(self, most: int) -> None:
        """For clients that do not wait: this process can hold so many in all."""
        self._limit = min(self._limit, most)

    def release(self) -> None:
        """The process is about to stop: whoever waits is answered now, and nobody waits any more."""
        with self._lock:
            self._released = True
            waiting = list(self._waiters)
        for waiter in waiting:
            waiter.over.set()

    def _join(self, waiter: Waiter) -> bool:
        with self._lock:
            if self._released or len(self._waiters) >= self._limit:
                return False
            self._waiters.add(waiter)
            if not self._watching:
                self._watching = True
                threading.Thread(target=self._watch, name="waiting", daemon=True).start()
        return True

    def _watch(self) -> None:
        while waiters := self._present():
            now = time.monotonic()
            due = [waiter for waiter in waiters if waiter.next_look <= now and not waiter.over.is_set()]
            for together in _by_partition(due):
                self._look(together, now)
            # In short naps: a client may join at any time, and wants its first look soon.
            time.sleep(SHORTEST_PAUSE)

    def _present(self) -> list[Waiter]:
        with self._lock:
            self._watching = bool(self._waiters)
            return list(self._waiters)

    def _look(self, due: Sequence[Waiter], now: float) -> None:
        """Whatever fails, the watcher goes on: others wait for it, and more will."""
        try:
            texts = self._texts([waiter.uid for waiter in due])
        except Exception as error:
            for waiter in due:
                waiter.fail(error)
            return
        for waiter, text in zip(due, texts, strict=True):
            try:
                waiter.see(text, now)
            except Exception as error:
                waiter.fail(error)


def _by_partition(waiters: Iterable[Waiter]) -> Iterable[list[Waiter]]:
    found: dict[int | None, list[Waiter]] = {}
    for waiter in waiters:
        found.setdefault(waiter.partition, []).append(waiter)
    return found.values()
