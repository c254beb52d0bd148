"""How long a start takes when the service has run before, until it is ready and its runners wait for tasks."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench import servers
from bench.processes import eventually
from bench.rounds import Plan
from bench.table import SECONDS, Row

TASKS: Final = 10_000  # of yesterday


def measure(plan: Plan) -> Iterator[Row]:
    with servers.folder() as home:
        with servers.started_in(home) as service:
            service.create(TASKS)
            eventually(lambda: service.count() == TASKS)
        seconds = [_start(home) for _ in range(plan.rounds)]
    yield Row(f"a second start, with {TASKS:,} tasks there", SECONDS, seconds, bar=5.0)


def _start(home: Path) -> float:
    begun = time.monotonic()
    with servers.started_in(home):
        return time.monotonic() - begun
