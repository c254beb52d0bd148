"""Keeps the leases of all that the lanes hold, in a thread of its own: other duties may take as long as Redis does not
answer, in one partition after the other.
"""

import time
from collections.abc import Sequence
from operator import attrgetter

from service.errors import Cancelled
from service.runner.lane import Lane
from service.runner.lockfile import Presence
from service.runner.upkeep import Upkeep
from service.store import Entry, Store, by_partition, in_each, to_each


class Leases:
    def __init__(self, lanes: Sequence[Lane], *, store: Store, presence: Presence, lease_seconds: float) -> None:
        self._lanes = lanes
        self._store = store
        self._presence = presence
        self._lease = lease_seconds

    def register(self, upkeep: Upkeep) -> None:
        upkeep.every(self._lease / 3, self.renew)

    def renew(self) -> None:
        to_each(self._lanes, self._renew)

    def _renew(self, lane: Lane) -> None:
        running, now, entries = lane.running, time.monotonic(), lane.holdings.entries()
        lost: set[Entry] = set()
        for some in in_each(by_partition(entries, attrgetter("partition")).items(), self._lost):
            lost |= some
            if running is not None and running.held.entry in some:
                running.interrupt(Cancelled)  # somebody else has it
        if entries and not lost:
            lane.renewed = now

    def _lost(self, of_partition: tuple[int, list[Entry]]) -> set[Entry]:
        """What it holds no more."""
        partition, entries = of_partition
        return set(entries) - self._store.queues.renew(partition, self._presence.consumer, entries)
