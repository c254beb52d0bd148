"""Creates that come at the same time share a round trip to Redis: one at a time for each partition.

What comes while one is under way goes with the next, as much as fits into a portion: a round trip costs this process
and Redis as much as several tasks. When nothing is under way, nobody waits.
"""

import threading
import time
from collections.abc import Sequence
from copy import copy
from typing import Final

from service.errors import StoreRefused, StoreUnavailable
from service.store import PORTION_BYTES, Document, Store
from service.tasks.document import Task

TASK_BYTES: Final = 1024  # of a command, for a task without its arguments

Present = list[Document | None]


class Group:
    """One client's tasks, and what came of them."""

    def __init__(self, new: Sequence[Task]) -> None:
        self.new = new
        self.bytes = sum(TASK_BYTES + len(task.args) for task in new)
        self.present: Present = []
        self.failure: Exception | None = None
        self.leads = False
        self.turn = threading.Event()


class RoundTrips:
    """Those to one partition. The first group that waits leads: it makes the round trip for all that wait with it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._waiting: list[Group] = []
        self._busy = False

    def create(self, group: Group) -> None:
        with self._lock:
            self._waiting.append(group)
            group.leads = not self._busy
            self._busy = True
        if not group.leads:
            group.turn.wait()
        if group.leads:
            self._lead()

    def _lead(self) -> None:
        together: list[Group] = []
        try:
            time.sleep(0)  # takes along clients whose requests have arrived already
            together = self._portion()
            for group, present in zip(
                together, self._store.create_each([group.new for group in together]), strict=True
            ):
                group.present = present
        except BaseException as error:
            together = together or self._portion()
            self._fail(together, error)
            raise
        finally:
            self._pass_on()
            for group in together:
                group.turn.set()

    def _portion(self) -> list[Group]:
        """Takes those that have waited longest: this one, and as many more as fit."""
        with self._lock:
            room, count = PORTION_BYTES - self._waiting[0].bytes, 1
            while count < len(self._waiting) and (room := room - self._waiting[count].bytes) >= 0:
                count += 1
            together, self._waiting = self._waiting[:count], self._waiting[count:]
        return together

    def _fail(self, together: list[Group], error: BaseException) -> None:
        """When Redis is lost, groups that came meanwhile fail too; otherwise each in turn would wait for it."""
        failure: Exception = StoreUnavailable("a request beside it failed")
        if isinstance(error, StoreUnavailable | StoreRefused):
            failure = error
        if isinstance(error, StoreUnavailable):
            with self._lock:
                together += self._waiting
                self._waiting = []
        for group in together:
            group.failure = failure

    def _pass_on(self) -> None:
        with self._lock:
            self._busy = bool(self._waiting)
            if self._waiting:
                self._waiting[0].leads = True
                self._waiting[0].turn.set()


class Gathering:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._round_trips = [RoundTrips(store) for _ in range(store.partitions)]

    def create(self, new: Sequence[Task]) -> Present:
        """Like Store.create."""
        partition = self._store.partition(new[0].uid)
        assert partition is not None
        group = Group(new)
        self._round_trips[partition].create(group)
        if group.failure is not None:
            raise copy(group.failure) from group.failure  # a copy for each client: an exception keeps its traceback
        return group.present
