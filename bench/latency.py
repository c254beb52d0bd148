"""From the answer `201` to the handler's start, one task at a time on an idle system.

Both moments are of this host's clock: the client's when it has the answer, and `started_at` of the document.
The peers are measured from the return of their call that sends the task; no HTTP is in between.
"""

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from statistics import median, quantiles
from typing import Final, NamedTuple

from bench import peer, servers
from bench.peer import CELERY, HUEY, Peer
from bench.processes import eventually
from bench.rounds import Plan, interleaved
from bench.servers import Service
from bench.table import MILLISECONDS, Row

TASKS: Final = 400
PAUSE_SECONDS: Final = 0.01


class Latency(NamedTuple):
    median_ms: float
    p99_ms: float


def measure(plan: Plan) -> Iterator[Row]:
    tasks = plan.size(TASKS) + 100
    candidates: dict[str, Callable[[], Latency]] = {"sandbox": partial(_of_service, tasks)}
    candidates |= {each.name: partial(_of_peer, each, tasks) for each in (HUEY, CELERY)}
    samples = interleaved(plan, candidates, fewer=(HUEY.name, CELERY.name))
    for each in (HUEY, CELERY):
        medians = {name: [sample.median_ms for sample in found] for name, found in samples.items()}
        yield Row("from 201 to the handler's start, median", MILLISECONDS, medians["sandbox"], each.name, medians[each.name], bar=3.0, aim=1.5, absolute=True)
        slowest = {name: [sample.p99_ms for sample in found] for name, found in samples.items()}
        yield Row("from 201 to the handler's start, p99", MILLISECONDS, slowest["sandbox"], each.name, slowest[each.name], bar=15.0, aim=5.0, absolute=True)


def _of_service(tasks: int) -> Latency:
    with servers.service() as service:
        connection = service.connection()
        answered: dict[str, float] = {}
        for _ in range(tasks):
            created = service.ask(connection, "POST", "/tasks", {"type": "echo"})
            answered[created["uid"]] = time.time()
            time.sleep(PAUSE_SECONDS)
        return _latency([_started(service, uid) - moment for uid, moment in answered.items()])


def _started(service: Service, uid: str) -> float:
    def started_at() -> str:
        return str(service.ask(service.connection(), "GET", f"/tasks/{uid}")["started_at"] or "")

    return datetime.fromisoformat(eventually(started_at)).timestamp()


def _of_peer(each: Peer, tasks: int) -> Latency:
    with peer.running(each) as workers:
        return _latency(workers.latencies(tasks))


def _latency(seconds: list[float]) -> Latency:
    return Latency(median(seconds) * 1000, quantiles(seconds, n=100)[98] * 1000)
