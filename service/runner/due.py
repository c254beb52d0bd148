"""Queues the tasks that are due, by Redis's clock."""

import time
from collections.abc import Sequence
from typing import Final

from service.runner.upkeep import Upkeep
from service.store import Store, in_each

PROMOTE_SECONDS: Final = 0.4
SLICE_SECONDS: Final = 0.1
BATCH: Final = 500
MANY: Final = 8  # a batch holds at least so many, however large they are: with fewer, nothing more is due


class Due:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._turn = 0

    def register(self, upkeep: Upkeep) -> None:
        upkeep.every(PROMOTE_SECONDS, self.promote)

    def promote(self) -> bool:
        """In slices: a million that are due at once must not hold up the leases. Returns whether there may be more."""
        until = time.monotonic() + SLICE_SECONDS
        while self._promote_some() >= MANY:
            if time.monotonic() >= until:
                return True
        return False

    def _promote_some(self) -> int:
        self._turn += 1  # so that each partition comes first
        return sum(in_each(self._store.groups, self._promote))

    def _promote(self, group: Sequence[int]) -> int:
        return self._store.promote(group[self._turn % len(group)], BATCH)
