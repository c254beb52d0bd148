"""Tells metrics, and the history, how long the queues are, and what is held back.

One runner of all does it, each few seconds.
"""

import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

from service.observe.metrics import Metrics
from service.runner.upkeep import Upkeep
from service.store import Store, stuck
from service.store.history import GAUGE_SECONDS, OF_QUEUE, RUNNERS

MEASURE_SECONDS: Final = 5.0


class Gauges:
    def __init__(self, store: Store, *, queues: Sequence[str], metrics: Metrics) -> None:
        self._store = store
        self._queues = queues
        self._metrics = metrics

    def register(self, upkeep: Upkeep) -> None:
        if self._metrics.wanted:
            upkeep.every(MEASURE_SECONDS / 5, self.measure)
        upkeep.every(GAUGE_SECONDS / 5, self.record)

    def measure(self) -> None:
        """For StatsD: one runner of all with the same prefix."""
        if self._store.is_my_turn(0, f"measure:{self._metrics.prefix}", int(MEASURE_SECONDS * 900)):
            self._metrics.backlog(self._store.backlog(self._queues))
            if self._store.limits.types:
                self._metrics.limits(self._store.limits.waiting())
            self._metrics.types(self._store.pauses.now().types, self._stuck())

    def _stuck(self) -> Counter[str]:
        """Tasks by type, those of all queues together."""
        tasks: Counter[str] = Counter()
        for lot in stuck(self._store.lots.now()):
            tasks[lot.type] += lot.tasks
        return tasks

    def record(self) -> None:
        """For the history: one runner of all."""
        if not self._store.is_my_turn(0, "record", GAUGE_SECONDS * 900):
            return
        measured: dict[str, tuple[float, ...]] = {
            f"{OF_QUEUE}{queue}": (each.depth, each.running, each.scheduled, each.oldest)
            for queue, each in self._store.backlog(self._queues).items()
        }
        at_work = self._store.roster.at_work()
        lanes, busy = sum(each.threads for each in at_work), sum(len(each.executing) for each in at_work)
        measured[RUNNERS] = (len(at_work), lanes, busy, sum(each.memory for each in at_work))
        self._store.history.gauge(time.time(), measured)
