"""Redis's memory while 1,000,000 tasks come, are executed, and expire.

After each step everything must be gone by itself: no document and no pointer is left. One run, not
five: the figure is a difference of sums, and each step repeats the one before.
"""

from collections.abc import Iterator
from typing import Final

from bench import servers
from bench.processes import complain, eventually
from bench.rounds import Plan
from bench.servers import SHELF, Service, used_memory
from bench.table import TENTHS_OF_BYTES, Row

STEPS: Final = 10
QUICK_STEPS: Final = 3
TASKS: Final = 100_000
RETENTION_SECONDS: Final = 1


def measure(plan: Plan) -> Iterator[Row]:
    steps = QUICK_STEPS if plan.quick else STEPS
    with servers.service(SANDBOX_RETENTION=str(RETENTION_SECONDS)) as service:
        before = _after_step(service)
        for number in range(steps):
            after = _after_step(service)
            complain(f"  step {number + 1}/{steps}: {after / 1e6:.2f} MB after {before / 1e6:.2f} MB")
    growth = (after - before) / (steps * TASKS)
    yield Row(
        f"Redis memory left by each of {steps * TASKS:,} tasks that come and go",
        TENTHS_OF_BYTES,
        [growth],
        bar=1.0,
        aim=0.1,
    )


def _after_step(service: Service) -> int:
    service.create(TASKS)
    eventually(lambda: _is_empty(service), seconds=120, pause=0.2)
    return used_memory(service.redis)


def _is_empty(service: Service) -> bool:
    return not any(service.redis.zcard(SHELF + status) for status in ("queued", "running", "succeeded"))
