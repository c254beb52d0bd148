"""The drain with 1,000,000 tasks waiting, against that with 10,000.

Two services, both filled once; while one is measured the other's runners are frozen. What a round
has drained is created again before the next one.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Final

from bench import servers
from bench.drain import until_drained
from bench.rounds import Plan, interleaved
from bench.servers import Service, used_memory
from bench.table import PER_SECOND, Row

FEW: Final = 10_000
MANY: Final = 1_000_000
DRAINED_OF_MANY: Final = 50_000


def measure(plan: Plan) -> Iterator[Row]:
    many, part = plan.size(MANY), DRAINED_OF_MANY
    with servers.service() as small, servers.service() as large:
        small.freeze()
        large.freeze()
        large.create(many - part)
        samples = interleaved(
            replace(plan, rounds=2 * plan.rounds),
            {f"{FEW:,} waiting": partial(_rate, small, FEW), f"{many:,} waiting": partial(_rate, large, part)},
        )
    few, most = samples.values()
    yield Row(f"drained with {many:,} waiting", PER_SECOND, most, f"sandbox, {FEW:,} waiting", few, bar=0.9, aim=1.0)


def _rate(service: Service, tasks: int) -> float:
    service.create(tasks)
    used_memory(service.redis)
    rate = until_drained(service, service.count() + tasks)
    service.freeze()
    return rate
