"""Tells metrics how long the queues are. One runner of all with the same prefix does it, each few seconds."""

from collections.abc import Sequence
from typing import Final

from service.observe.metrics import Metrics
from service.runner.upkeep import Upkeep
from service.store import Store

MEASURE_SECONDS: Final = 5.0


class Gauges:
    def __init__(self, store: Store, *, queues: Sequence[str], metrics: Metrics) -> None:
        self._store = store
        self._queues = queues
        self._metrics = metrics

    def register(self, upkeep: Upkeep) -> None:
        if self._metrics.wanted:
            upkeep.every(MEASURE_SECONDS / 5, self.measure)

    def measure(self) -> None:
        if self._store.is_my_turn(0, f"measure:{self._metrics.prefix}", int(MEASURE_SECONDS * 900)):
            self._metrics.backlog(self._store.backlog(self._queues))
