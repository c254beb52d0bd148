"""Queues the tasks that are due, by Redis's clock."""

import time
from typing import Final

from service.runner.upkeep import Upkeep
from service.store import Store

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
        return sum(self._store.promote(group[self._turn % len(group)], BATCH) for group in self._store.groups)
