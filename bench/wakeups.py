"""Clients that wait with `Prefer: wait`: how soon they learn of the end, and what 500 of them cost.

From the end to the answer: `finished_at` of the document, and the client's clock when it has the answer.
The cost, while nothing changes, is what Redis executes and what the web workers use of a processor, each
without what an idle service needs.
"""

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from statistics import median
from typing import Any, Final

from bench import servers
from bench.processes import processor_seconds
from bench.rounds import Plan
from bench.servers import Service
from bench.table import MILLISECONDS, Row, Unit

TASKS: Final = 100
TASK_SECONDS: Final = 0.1
CLIENTS: Final = 500
SECONDS: Final = 10.0
SETTLE_SECONDS: Final = 3.0  # all have come, and read their task once
WAIT: Final = {"Prefer": "wait=60"}
COMMANDS: Final = Unit(lambda number: f"{number:.1f}/s", more_is_better=False)
PROCESSOR: Final = Unit(lambda number: f"{number:.2f} %", more_is_better=False)


def measure(plan: Plan) -> Iterator[Row]:
    latencies: list[float] = []
    commands: list[float] = []
    processor: list[float] = []
    for _ in range(plan.rounds):
        with servers.service(SANDBOX_WAITING_CLIENTS=str(4 * CLIENTS)) as service:
            latencies.append(_latency_ms(service, plan.size(TASKS)))
            seconds = plan.seconds(SECONDS)
            idle = _cost(service, seconds)
            with _waiting(service, CLIENTS):
                busy = _cost(service, seconds)
        commands.append(busy[0] - idle[0])
        processor.append(busy[1] - idle[1])
    nothing = f"{CLIENTS} waiting clients, nothing changes"
    yield Row("from a task's end to the answer of its waiting client, median", MILLISECONDS, latencies)
    yield Row(f"{nothing}: commands to Redis", COMMANDS, commands, bar=20.0)
    yield Row(f"{nothing}: processor of the web workers", PROCESSOR, processor, bar=2.0)


def _latency_ms(service: Service, tasks: int) -> float:
    connection = service.connection()
    return median(_one_latency_ms(service, connection) for _ in range(tasks))


def _one_latency_ms(service: Service, connection: http.client.HTTPConnection) -> float:
    uid = service.ask(connection, "POST", "/tasks", {"type": "sleep", "args": {"seconds": TASK_SECONDS}})["uid"]
    connection.request("GET", f"/tasks/{uid}", headers=WAIT)
    task = json.loads(connection.getresponse().read())
    return (time.time() - datetime.fromisoformat(task["finished_at"]).timestamp()) * 1000


@contextmanager
def _waiting(service: Service, clients: int) -> Iterator[None]:
    """So many clients wait for one task that is due in a year."""
    due = {"type": "echo", "run_at": f"{datetime.now().year + 1}-12-31T00:00:00Z"}
    uid = service.ask(service.connection(), "POST", "/tasks", due)["uid"]
    with ExitStack() as opened:
        for _ in range(clients):
            connection = service.connection()
            opened.callback(connection.close)
            connection.request("GET", f"/tasks/{uid}", headers=WAIT)
        time.sleep(SETTLE_SECONDS)
        yield


def _cost(service: Service, seconds: float) -> tuple[float, float]:
    """Commands a second, and per cent of a processor."""
    before = processor_seconds(service.web_workers())
    commands = _commands_per_second(service, seconds)
    return commands, (processor_seconds(service.web_workers()) - before) / seconds * 100


def _commands_per_second(service: Service, seconds: float) -> float:
    def executed() -> int:
        statistics: dict[str, Any] = service.redis.info("stats")
        return int(statistics["total_commands_processed"])

    before = executed()
    time.sleep(seconds)
    return (executed() - before) / seconds
