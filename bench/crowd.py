"""`POST /tasks` by one client beside many that wait for a task, or never finish their request; and without them."""

import http.client
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from statistics import quantiles
from typing import Final

from bench import servers
from bench.rounds import Plan, interleaved
from bench.servers import Service
from bench.table import MILLISECONDS, Row

REQUESTS: Final = 2000
WARM_UP: Final = 200
WAITING: Final = 200
HALF_SENT: Final = 50
ALONE: Final = "alone"
HALF: Final = (
    b"POST /tasks HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
)


def measure(plan: Plan) -> Iterator[Row]:
    count = plan.size(REQUESTS) + WARM_UP
    crowded = f"beside {WAITING} that wait, {HALF_SENT} half sent"
    samples = interleaved(
        plan, {crowded: partial(_p99_ms, count, WAITING, HALF_SENT), ALONE: partial(_p99_ms, count, 0, 0)}
    )
    yield Row(f"POST /tasks {crowded}, p99", MILLISECONDS, samples[crowded], ALONE, samples[ALONE], bar=2.0)


def _p99_ms(count: int, waiting: int, half_sent: int) -> float:
    with servers.service() as service, ExitStack() as crowd:
        service.freeze()
        connection = service.connection()
        uid = service.ask(connection, "POST", "/tasks", {"type": "echo"})["uid"]
        wait = f"GET /tasks/{uid} HTTP/1.1\r\nHost: localhost\r\nPrefer: wait=60\r\n\r\n".encode()
        for words in [wait] * waiting + [HALF] * half_sent:
            crowd.enter_context(socket.create_connection(("127.0.0.1", service.port))).sendall(words)
        taken = [_taken_ms(service, connection) for _ in range(count)]
    return quantiles(taken[WARM_UP:], n=100)[98]


def _taken_ms(service: Service, connection: http.client.HTTPConnection) -> float:
    begun = time.perf_counter()
    service.ask(connection, "POST", "/tasks", {"type": "echo"})
    return (time.perf_counter() - begun) * 1000
