"""From the answer `201` to the handler's start, one task at a time on an idle system.

Both moments are of this host's clock: the client's when it has the answer, and `started_at` of the document.
A runner that waits may start before the client has its answer: the difference is then negative.
The peers are measured from the return of their call that sends the task; no HTTP is in between.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from statistics import median, quantiles
from typing import Any, Final, NamedTuple

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
    whole_ms: float


def measure(plan: Plan) -> Iterator[Row]:
    tasks = plan.size(TASKS) + 100
    candidates: dict[str, Callable[[], Latency]] = {"sandbox": partial(_of_service, tasks)}
    candidates |= {each.name: partial(_of_peer, each, tasks) for each in (HUEY, CELERY)}
    samples = interleaved(plan, candidates, fewer=(HUEY.name, CELERY.name))

    def row(what: str, each: Peer, figure: Callable[[Latency], float], **wanted: Any) -> Row:
        ours, theirs = ([*map(figure, samples[name])] for name in ("sandbox", each.name))
        return Row(what, MILLISECONDS, ours, each.name, theirs, absolute=True, **wanted)

    start = "from 201 to the handler's start"
    yield row(f"{start}, median", HUEY, lambda sample: sample.median_ms, bar=3.0, aim=1.5)
    yield row(f"{start}, median", CELERY, lambda sample: sample.median_ms)
    yield row(f"{start}, p99", HUEY, lambda sample: sample.p99_ms, bar=15.0, aim=5.0)
    yield row(f"{start}, p99", CELERY, lambda sample: sample.p99_ms)
    yield row("from the call to the handler's start, median", HUEY, lambda sample: sample.whole_ms)
    yield row("from the call to the handler's start, median", CELERY, lambda sample: sample.whole_ms)


def _of_service(tasks: int) -> Latency:
    with servers.service() as service:
        connection = service.connection()
        calls: dict[str, tuple[float, float]] = {}
        for _ in range(tasks):
            called = time.time()
            created = service.ask(connection, "POST", "/tasks", {"type": "echo"})
            calls[created["uid"]] = (called, time.time())
            time.sleep(PAUSE_SECONDS)
        return _latency([(*moments, _started(service, uid)) for uid, moments in calls.items()])


def _started(service: Service, uid: str) -> float:
    def started_at() -> str:
        return str(service.ask(service.connection(), "GET", f"/tasks/{uid}")["started_at"] or "")

    return datetime.fromisoformat(eventually(started_at)).timestamp()


def _of_peer(each: Peer, tasks: int) -> Latency:
    with peer.running(each) as workers:
        return _latency(workers.moments(tasks))


def _latency(moments: Sequence[tuple[float, float, float]]) -> Latency:
    """Of the moments of the call, the answer, and the handler's start, in seconds."""
    after_answer = [started - answered for _, answered, started in moments]
    after_call = [started - called for called, _, started in moments]
    return Latency(median(after_answer) * 1000, quantiles(after_answer, n=100)[98] * 1000, median(after_call) * 1000)
