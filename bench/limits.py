"""What a limited task costs against one without a limit, and how well a rate is met.

The drain of a type that names a limit: where nobody has set it, where it admits all, where one of each of fifty keys
runs at once, and at a rate that is never reached. Then a rate that is: the starts a second, from the first to the last.
Celery has a rate of a type, the same for each key; Dramatiq has a lock that a handler takes, and is tried again later.
"""

import json
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import Any, Final

from bench import peer, servers
from bench.drain import until_drained
from bench.peer import CELERY, DRAMATIQ, Peer
from bench.processes import ROOT, eventually
from bench.rounds import Plan, interleaved
from bench.servers import BATCH, Service, used_memory
from bench.table import PER_SECOND, TENTHS_PER_SECOND, Row

TASKS: Final = 20_000
KEYS: Final = 50
PACE: Final = 20
PACED: Final = 400
OF_CELERY: Final = 5_000
OF_DRAMATIQ: Final = 2_000
SETTINGS: Final = {"SANDBOX_TASKS": "service.builtin.demo,bench.limited", "PYTHONPATH": str(ROOT)}
NOT_SET: Final = "no limit set"
SHELF: Final = "sandbox:{0}:shelf:limited:default:succeeded"
AT_ONCE, ONE, RATE = "100,000 of a key at once", "one of a key at once", "100,000 of a key a second"
RULES: Final = {
    AT_ONCE: {"key": "args.key", "concurrency": 100_000},
    ONE: {"key": "args.key", "concurrency": 1},
    RATE: {"key": "args.key", "rate": "100000/second", "burst": 100_000},
}
CELERY_FREE: Final = f"{CELERY.name}, no limit"
CELERY_RATE: Final = f"{CELERY.name}, rate_limit"
DRAMATIQ_ONE: Final = f"{DRAMATIQ.name}, ConcurrentRateLimiter"


def measure(plan: Plan) -> Iterator[Row]:
    tasks = plan.size(TASKS)
    candidates: dict[str, Callable[[], float]] = {NOT_SET: partial(_rate, tasks, None)}
    candidates |= {name: partial(_rate, tasks, rule) for name, rule in RULES.items()}
    candidates |= {
        CELERY_FREE: partial(_of_peer, CELERY, plan.size(OF_CELERY), "send"),
        CELERY_RATE: partial(_of_peer, CELERY, plan.size(OF_CELERY), "send_hurried"),
        DRAMATIQ_ONE: partial(_of_peer, DRAMATIQ, plan.size(OF_DRAMATIQ), "send_one_at_once"),
    }
    samples = interleaved(plan, candidates, fewer=(CELERY_FREE, CELERY_RATE, DRAMATIQ_ONE))
    for name in RULES:
        yield Row(f"limited tasks drained, {name}", PER_SECOND, samples[name], NOT_SET, samples[NOT_SET])
    for name, other in ((RATE, CELERY_RATE), (ONE, DRAMATIQ_ONE)):
        yield Row(f"limited tasks drained, {name}", PER_SECOND, samples[name], other, samples[other])
    yield Row("(the same without a limit)", PER_SECOND, (), CELERY_FREE, samples[CELERY_FREE])
    yield _paced(plan)


def _paced(plan: Plan) -> Row:
    tasks = plan.size(PACED)
    paced: dict[str, Callable[[], float]] = {
        "sandbox": partial(_starts_a_second, tasks),
        CELERY_RATE: partial(_starts_a_second_of_celery, tasks),
    }
    samples = interleaved(plan, paced, fewer=(CELERY_RATE,))
    what = f"starts a second at a rate of {PACE}/second"
    ours, theirs = samples.values()
    return Row(what, TENTHS_PER_SECOND, ours, CELERY_RATE, theirs, bar=0.98 * PACE, absolute=True)


class _Limited:
    """The service as the drain sees it, counting these tasks."""

    def __init__(self, service: Service) -> None:
        self.redis = service.redis
        self.freeze, self.thaw = service.freeze, service.thaw

    def count(self) -> int:
        return int(self.redis.zcard(SHELF))


def _rate(tasks: int, rule: dict[str, Any] | None) -> float:
    with servers.service(**SETTINGS) as service:
        service.freeze()
        _create(service, tasks, KEYS, rule)
        used_memory(service.redis)
        return until_drained(_Limited(service), tasks)


def _create(service: Service, tasks: int, keys: int, rule: dict[str, Any] | None) -> list[str]:
    connection, uids = service.connection(), []
    if rule is not None:
        service.ask(connection, "PUT", "/limits/bench", rule)
    new = [{"type": "limited", "args": {"key": str(number % keys)}} for number in range(tasks)]
    for first in range(0, tasks, BATCH):
        made = service.ask(connection, "POST", "/tasks/batch", new[first : first + BATCH])
        uids += [task["uid"] for task in made["tasks"]]
    return uids


def _of_peer(each: Peer, tasks: int, send: str) -> float:
    with peer.running(each) as workers:
        workers.freeze()
        workers.create(tasks, send)
        return until_drained(workers, workers.count() + tasks)


def _starts_a_second(tasks: int) -> float:
    with servers.service(**SETTINGS) as service:
        uids = _create(service, tasks, 1, {"rate": f"{PACE}/second"})
        limited = _Limited(service)
        eventually(lambda: limited.count() == tasks, seconds=60 + 2 * tasks / PACE)
        started = [json.loads(text)["started_at"] for text in service.redis.mget(uids)]
    return _a_second([datetime.fromisoformat(moment).timestamp() for moment in started])


def _starts_a_second_of_celery(tasks: int) -> float:
    """Of those that it starts within twice the time: it may start one a second."""
    with peer.running(CELERY) as workers:
        workers.results.flushdb()
        workers.create(tasks, "send_paced")
        until = time.monotonic() + 2 * tasks / PACE
        while workers.count() < tasks and time.monotonic() < until:
            time.sleep(0.1)
        results = [json.loads(text)["result"] for text in workers.results.mget(workers.results.keys())]
    return _a_second([moment for moment in results if moment])  # one of the warm-up may have come late


def _a_second(moments: list[float]) -> float:
    return (len(moments) - 1) / (max(moments) - min(moments))
