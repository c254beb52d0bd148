"""What a limited task costs against one without a limit, and how well a rate is met.

The drain of a type that names a limit: where nobody has set it, where it admits all, where one of each of fifty keys
runs at once, and at a rate that is never reached. Then a rate that is: the starts a second, from the first to the last.
"""

import json
from collections.abc import Callable, Iterator
from datetime import datetime
from functools import partial
from typing import Any, Final

from bench import servers
from bench.drain import until_drained
from bench.processes import ROOT, eventually
from bench.rounds import Plan, interleaved
from bench.servers import BATCH, Service, used_memory
from bench.table import PER_SECOND, Row

TASKS: Final = 20_000
KEYS: Final = 50
PACE: Final = 20
PACED: Final = 400
SETTINGS: Final = {"SANDBOX_TASKS": "service.builtin.demo,bench.limited", "PYTHONPATH": str(ROOT)}
NOT_SET: Final = "no limit set"
SHELF: Final = "sandbox:{0}:shelf:limited:default:succeeded"
RULES: Final = {
    "100,000 of a key at once": {"key": "args.key", "concurrency": 100_000},
    "one of a key at once": {"key": "args.key", "concurrency": 1},
    "100,000 of a key a second": {"key": "args.key", "rate": "100000/second", "burst": 100_000},
}


def measure(plan: Plan) -> Iterator[Row]:
    tasks = plan.size(TASKS)
    candidates: dict[str, Callable[[], float]] = {NOT_SET: partial(_rate, tasks, None)}
    samples = interleaved(plan, candidates | {name: partial(_rate, tasks, rule) for name, rule in RULES.items()})
    for name in RULES:
        yield Row(f"limited tasks drained, {name}", PER_SECOND, samples[name], NOT_SET, samples[NOT_SET])
    paced = interleaved(plan, {"paced": partial(_starts_a_second, plan.size(PACED))})["paced"]
    yield Row(f"starts a second at a rate of {PACE}/second", PER_SECOND, paced, bar=0.98 * PACE)


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


def _starts_a_second(tasks: int) -> float:
    with servers.service(**SETTINGS) as service:
        uids = _create(service, tasks, 1, {"rate": f"{PACE}/second"})
        limited = _Limited(service)
        eventually(lambda: limited.count() == tasks, seconds=60 + 2 * tasks / PACE)
        started = [json.loads(text)["started_at"] for text in service.redis.mget(uids)]
    first, last = (datetime.fromisoformat(moment).timestamp() for moment in (min(started), max(started)))
    return (tasks - 1) / (last - first)
