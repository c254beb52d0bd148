"""The drain with 1,000,000 tasks waiting, against that with 10,000.

Two services, both filled once; while one is measured the other's runners are frozen. A round drains as
many tasks of each: what happens once a second then weighs as much on both sides. What has been drained
is created again before the next time.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from statistics import harmonic_mean
from typing import Final

from bench import servers
from bench.drain import until_drained
from bench.rounds import Plan, interleaved
from bench.servers import Service, used_memory
from bench.table import PER_SECOND, Row

FEW: Final = 10_000
MANY: Final = 1_000_000
DRAINED: Final = 50_000


def measure(plan: Plan) -> Iterator[Row]:
    many = plan.size(MANY)
    with servers.service() as small, servers.service() as large:
        small.freeze()
        large.freeze()
        large.create(many - DRAINED)
        samples = interleaved(
            replace(plan, rounds=2 * plan.rounds),
            {f"{FEW:,} waiting": partial(_rate, small, FEW), f"{many:,} waiting": partial(_rate, large, DRAINED)},
        )
    few, most = samples.values()
    yield Row(f"drained with {many:,} waiting", PER_SECOND, most, f"sandbox, {FEW:,} waiting", few, bar=0.9, aim=1.0)


def _rate(service: Service, tasks: int) -> float:
    return harmonic_mean([_drained(service, tasks) for _ in range(DRAINED // tasks)])


def _drained(service: Service, tasks: int) -> float:
    service.create(tasks)
    used_memory(service.redis)
    rate = until_drained(service, service.count() + tasks)
    service.freeze()
    return rate
