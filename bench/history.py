"""What the history costs the drain: processor time of the runners and of Redis for a task, with and without it.

Processor time, and not the rate: the history takes less than the rate varies from one drain to the next.
"""

from collections.abc import Iterator
from functools import partial
from typing import Final

import psutil

from bench import servers
from bench.drain import drained
from bench.processes import ROOT, processor_seconds
from bench.rounds import Plan, interleaved
from bench.table import MICROSECONDS, Row

TASKS: Final = 200_000
WITH: Final = "with it"
WITHOUT: Final = "without it"
SETTINGS: Final[dict[str, dict[str, str]]] = {
    WITH: {},
    WITHOUT: {"SANDBOX_TASKS": "service.builtin.demo,bench.forgetful", "PYTHONPATH": str(ROOT)},
}
COST: Final = 1.03


def measure(plan: Plan) -> Iterator[Row]:
    candidates = {name: partial(_microseconds, plan.size(TASKS), SETTINGS[name]) for name in SETTINGS}
    samples = interleaved(plan, candidates)
    what = "processor time of a drained task, with its history"
    yield Row(what, MICROSECONDS, samples[WITH], WITHOUT, samples[WITHOUT], bar=COST)


def _microseconds(tasks: int, settings: dict[str, str]) -> float:
    with servers.service(**settings) as service:
        service.freeze()
        processes = [*service.runners(), psutil.Process(service.redis.info("server")["process_id"])]
        used = 0.0

        def create() -> None:
            nonlocal used
            service.create(tasks)
            used = processor_seconds(processes)

        drained(service, service.runners(), tasks, create)
        return (processor_seconds(processes) - used) / tasks * 1_000_000
