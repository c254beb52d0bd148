"""Removes what points at expired documents. One runner of all begins with it, each second."""

import time
from typing import Final

from service.runner.upkeep import Upkeep
from service.store import Store

SWEEP_SECONDS: Final = 1.0
SLICE_SECONDS: Final = 0.1
BATCH: Final = 1000


class Sweep:
    def __init__(self, store: Store, *, retention_seconds: float) -> None:
        self._store = store
        self._retention = retention_seconds
        self._places: list[dict[str, int]] = [{} for _ in store.groups]
        self._under_way = False

    def register(self, upkeep: Upkeep) -> None:
        upkeep.every(SWEEP_SECONDS, self.sweep)

    def sweep(self) -> bool:
        """In slices, so that it does not hold up the leases. Returns whether there is more."""
        created_before = int((time.time() - self._retention) * 1_000_000)
        until = time.monotonic() + SLICE_SECONDS
        more = False
        for group, places in zip(self._store.groups, self._places, strict=True):
            if not self._under_way and not self._store.is_my_turn(group[0], "sweep", int(SWEEP_SECONDS * 900)):
                continue
            removed = 1
            while removed and time.monotonic() < until:
                removed = self._store.index.sweep(group, created_before=created_before, count=BATCH, places=places)
            more = more or bool(removed)
        self._under_way = more
        return more
