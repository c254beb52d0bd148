"""Removes what points at expired documents: one runner of all begins with it, each second. Once a minute, one looks for
unique keys that somebody has left behind.
"""

import time
from collections.abc import Sequence
from typing import Final

from service.runner.upkeep import Upkeep
from service.store import Store, in_each

SWEEP_SECONDS: Final = 1.0
SLICE_SECONDS: Final = 0.1
BATCH: Final = 1000
MANY: Final = 100  # for fewer it waits until the next second
KEYS_SECONDS: Final = 60.0


class Sweep:
    def __init__(self, store: Store, *, retention_seconds: float) -> None:
        self._store = store
        self._retention = retention_seconds
        self._places: list[dict[str, int]] = [{} for _ in store.groups]
        self._left: list[int] = []  # groups that this runner is to go on with
        self._keys: dict[int, str] = {}  # by partition: how far it has looked

    def register(self, upkeep: Upkeep) -> None:
        upkeep.every(SWEEP_SECONDS, self.sweep)
        upkeep.every(KEYS_SECONDS, self.begin_with_keys)
        upkeep.every(SWEEP_SECONDS, self.look_at_keys)

    def sweep(self) -> bool:
        """In slices, so that it does not hold up the leases. Returns whether there is more."""
        groups = self._store.groups
        if not self._left:
            for place, is_mine in in_each(range(len(groups)), lambda place: (place, self._is_my_turn(groups[place]))):
                if is_mine:
                    self._left.append(place)
        created_before = int((time.time() - self._retention) * 1_000_000)
        until = time.monotonic() + SLICE_SECONDS
        while self._left and time.monotonic() < until:
            group, places = groups[place := self._left.pop(0)], self._places[place]
            if self._store.index.sweep(group, created_before=created_before, count=BATCH, places=places) >= MANY:
                self._left.append(place)  # there is more; the others come first
        return bool(self._left)

    def _is_my_turn(self, group: Sequence[int]) -> bool:
        return self._store.is_my_turn(group[0], "sweep", int(SWEEP_SECONDS * 900))

    def begin_with_keys(self) -> None:
        for partition, is_mine in in_each(range(self._store.partitions), self._is_my_turn_with_keys):
            if is_mine:
                self._keys.setdefault(partition, "0")

    def _is_my_turn_with_keys(self, partition: int) -> tuple[int, bool]:
        return partition, self._store.is_my_turn(partition, "unique-keys", int(KEYS_SECONDS * 900))

    def look_at_keys(self) -> bool:
        """In slices, too."""
        until = time.monotonic() + SLICE_SECONDS
        return any(in_each(list(self._keys), lambda partition: self._look_at_keys(partition, until)))

    def _look_at_keys(self, partition: int, until: float) -> bool:
        while (cursor := self._store.unique_keys.look(partition, self._keys[partition], BATCH)) != "0":
            self._keys[partition] = cursor
            if time.monotonic() > until:
                return True
        del self._keys[partition]
        return False
