"""Keeps the leases of all that the lanes hold."""

import time
from collections.abc import Sequence

from service.errors import Cancelled
from service.runner.lane import Lane
from service.runner.lockfile import Presence
from service.runner.upkeep import Upkeep
from service.store import Entry, Store


class Leases:
    def __init__(self, lanes: Sequence[Lane], *, store: Store, presence: Presence, lease_seconds: float) -> None:
        self._lanes = lanes
        self._store = store
        self._presence = presence
        self._lease = lease_seconds

    def register(self, upkeep: Upkeep) -> None:
        upkeep.every(self._lease / 3, self.renew)

    def renew(self) -> None:
        for lane in self._lanes:
            running, now, entries = lane.running, time.monotonic(), lane.holdings.entries()
            renewed = self._renewed(entries)
            if entries and renewed.issuperset(entries):
                lane.renewed = now
            if running is not None and running.held.entry in entries and running.held.entry not in renewed:
                running.interrupt(Cancelled)  # somebody else has it

    def _renewed(self, entries: Sequence[Entry]) -> set[Entry]:
        by_partition: dict[int, list[Entry]] = {}
        for entry in entries:
            by_partition.setdefault(entry.partition, []).append(entry)
        renewed: set[Entry] = set()
        for partition, members in by_partition.items():
            renewed |= self._store.queues.renew(partition, self._presence.consumer, members)
        return renewed
