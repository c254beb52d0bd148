"""How many no-op tasks a second two runner processes work off, what each leaves in Redis, and what a runner weighs.

The workers are started, warmed up and frozen (SIGSTOP); the queue is filled; they go on all at once.
Time runs from the first settled task to the last, so starting up is part of it for nobody.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

import psutil
import redis

from bench import peer, servers
from bench.peer import CELERY, DRAMATIQ, HUEY, RQ, Peer
from bench.processes import resident_mb
from bench.rounds import Plan, interleaved
from bench.servers import resident_memory, used_memory
from bench.table import BYTES, MEGABYTES, PER_SECOND, Row, Unit

PEERS: Final = (HUEY, CELERY, DRAMATIQ, RQ)
# So many that each takes about three seconds.
TASKS: Final = {"sandbox": 100_000, HUEY.name: 20_000, CELERY.name: 5_000, DRAMATIQ.name: 12_000, RQ.name: 2_000}
LIMIT_SECONDS: Final = 120.0
SHORTEST_NAP: Final = 0.002
LONGEST_NAP: Final = 0.25


class Drained(NamedTuple):
    rate: float
    bytes_a_task: float
    resident_bytes_a_task: float
    resident_mb: float
    created: float


class Workers(Protocol):
    redis: redis.Redis

    def count(self) -> int: ...

    def freeze(self) -> None: ...

    def thaw(self) -> None: ...


def measure(plan: Plan) -> Iterator[Row]:
    ours: dict[str, Callable[[], Drained]] = {"sandbox": partial(_of_service, plan.size(TASKS["sandbox"]))}
    theirs = {each.name: partial(_of_peer, each, plan.size(TASKS[each.name])) for each in PEERS}
    samples = interleaved(plan, ours | theirs, fewer=(DRAMATIQ.name, RQ.name))

    def row(what: str, unit: Unit, each: Peer, figure: Callable[[Drained], float], **wanted: Any) -> Row:
        return Row(
            what, unit, [*map(figure, samples["sandbox"])], each.name, [*map(figure, samples[each.name])], **wanted
        )

    wanted = {HUEY: {"bar": 6.0, "aim": 8.0}, CELERY: {"bar": 25.0, "aim": 35.0}}
    for each in PEERS:
        yield row("no-op tasks drained", PER_SECOND, each, lambda sample: sample.rate, **wanted.get(each, {}))
    weight = "resident memory of a runner"
    left, kept = "Redis memory of a finished no-op task", "resident memory of Redis for a finished no-op task"
    yield row(weight, MEGABYTES, HUEY, lambda sample: sample.resident_mb, bar=40, aim=32, absolute=True)
    yield row(weight, MEGABYTES, CELERY, lambda sample: sample.resident_mb)
    yield row(left, BYTES, HUEY, lambda sample: sample.bytes_a_task, bar=500, absolute=True)
    yield row(left, BYTES, CELERY, lambda sample: sample.bytes_a_task)
    yield row(kept, BYTES, HUEY, lambda sample: sample.resident_bytes_a_task, bar=800, absolute=True)
    yield row(kept, BYTES, CELERY, lambda sample: sample.resident_bytes_a_task)
    for each in PEERS:
        yield Row(
            "(tasks created by one process)",
            PER_SECOND,
            (),
            each.name,
            [sample.created for sample in samples[each.name]],
        )


def _of_service(tasks: int) -> Drained:
    with servers.service() as service:
        service.freeze()
        return drained(service, service.runners(), tasks, lambda: service.create(tasks))


def _of_peer(each: Peer, tasks: int) -> Drained:
    with peer.running(each) as workers:
        workers.freeze()
        return drained(workers, workers.workers(), tasks, lambda: workers.create(tasks))


def drained(workers: Workers, processes: Sequence[psutil.Process], tasks: int, create: Callable[[], object]) -> Drained:
    memory, resident = used_memory(workers.redis), resident_memory(workers.redis)
    begun = time.perf_counter()
    create()
    created = tasks / (time.perf_counter() - begun)
    used_memory(workers.redis)  # a rewrite of the append-only file that filling has set off is not the drain's
    rate = until_drained(workers, workers.count() + tasks)
    left, kept = used_memory(workers.redis) - memory, resident_memory(workers.redis) - resident
    return Drained(rate, left / tasks, kept / tasks, resident_mb(processes), created)


def until_drained(workers: Workers, total: int) -> float:
    """Tasks a second, from the first one settled to the last, once the workers go on."""
    before = workers.count()
    workers.thaw()
    begun = time.perf_counter()
    while (first := workers.count()) == before:
        _nap(SHORTEST_NAP, begun)
    first_at = time.perf_counter()
    done = first
    while done < total:
        elapsed = time.perf_counter() - first_at
        _nap((total - done) / max(1, done - first) * elapsed / 2, begun)
        done = workers.count()
    return (done - first) / (time.perf_counter() - first_at)


def _nap(seconds: float, begun: float) -> None:
    if time.perf_counter() - begun > LIMIT_SECONDS:
        raise TimeoutError(f"not drained within {LIMIT_SECONDS:g} s")
    time.sleep(min(max(seconds, SHORTEST_NAP), LONGEST_NAP))
