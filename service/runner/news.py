"""How idle lanes learn where something waits, if partitions are apart, as on a Cluster.

A command can wait in one partition only. So lanes that have been idle for a while wait for the messages that scripts
publish when something is queued, in all partitions at once, and fetch where there is news. A message may be lost:
each partition is looked at now and then, twice a second in all; and at once when listening to it begins anew. While
that fails, they look as often as lanes do that do not listen.

While one is busy nobody listens: the messages of a busy queue would cost more than they tell.
"""

import threading
import time
from collections.abc import Sequence
from typing import Final

from service.runner.order import Turn
from service.store import Entry, Store
from service.tasks.document import QUEUED

IDLE_SECONDS: Final = 1.0
WAIT_SECONDS: Final = 0.5
LOOKS_A_SECOND: Final = 2.0
DEAF_SECONDS: Final = 0.25


class News:
    """Of a process; its lanes share it."""

    def __init__(self, store: Store) -> None:
        self.queues = store.queues
        self._wakeups = store.wakeups
        self._partitions = range(store.partitions)
        self._changed = threading.Condition()
        self._lanes = 0
        self._fresh: dict[int, int] = {}  # how many lanes are to look at a partition
        self._looked = [0.0] * store.partitions

    def join(self) -> None:
        """A lane listens from now on. What came before is found by a look at each partition."""
        with self._changed:
            self._lanes += 1
            if self._lanes == 1:
                self._fresh = dict.fromkeys(self._partitions, 1)
                for partition in self._partitions:
                    self._wakeups.follow(partition, self, look_seconds=len(self._partitions) / LOOKS_A_SECOND)

    def leave(self) -> None:
        with self._changed:
            self._lanes -= 1
            if not self._lanes:
                for partition in self._partitions:
                    self._wakeups.unfollow(partition, self)

    def wait(self, seconds: float) -> int | None:
        """The partition to look at."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._fresh, seconds):
                return None
            partition = next(iter(self._fresh))
            if (others := self._fresh.pop(partition) - 1) > 0:
                self._fresh[partition] = others
            self._looked[partition] = time.monotonic()
            return partition

    def tell(self, partition: int, count: int = 1) -> None:
        """Something may wait there, for so many lanes."""
        with self._changed:
            self._fresh[partition] = min(self._lanes, self._fresh.get(partition, 0) + count) or 1
            self._changed.notify(count)

    # --- what the store's listeners call ---------------------------------------------------------------

    def changed(self, partition: int, status: str, uids: Sequence[str]) -> None:
        if status == QUEUED:
            self.tell(partition, len(uids))

    def look(self, partition: int) -> None:
        if time.monotonic() - self._looked[partition] >= DEAF_SECONDS:
            self.tell(partition)


class Ear:
    """A lane's: it opens when nothing has come for a while, and closes as soon as something has."""

    def __init__(self, news: News) -> None:
        self._news = news
        self._is_open = False
        self._idle_since = time.monotonic()

    def listens(self) -> bool:
        """Not beside a paused queue: a pause may end without a message."""
        wanted = time.monotonic() - self._idle_since > IDLE_SECONDS and not self._news.queues.paused
        if wanted != self._is_open:
            self._is_open = wanted
            (self._news.join if wanted else self._news.leave)()
        return wanted

    def close(self) -> None:
        self._idle_since = time.monotonic()
        if self._is_open:
            self._is_open = False
            self._news.leave()

    def wait(self, turn: Turn, consumer: str, count: int) -> list[Entry]:
        """What is fetched where there is news."""
        if (partition := self._news.wait(WAIT_SECONDS)) is None:
            return []
        try:
            entries = self._news.queues.fetch(partition, turn.queues, consumer, count, turn.priorities)
        except BaseException:
            self._news.tell(partition)
            raise
        if len(entries) == count:
            self._news.tell(partition)  # another lane may take more
        return entries
