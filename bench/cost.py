"""What telling others costs: `POST /tasks` and the no-op drain with metrics on, against the same without.

The StatsD is a process that only reads, so that no other server's work is measured; or one that never
reads, or nobody, or a name that does not resolve.
"""

import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Final

from bench import servers, web
from bench.drain import Drained, drained
from bench.processes import environment, started
from bench.rounds import Plan, interleaved
from bench.table import PER_SECOND, Row

TASKS: Final = 100_000
WITHOUT: Final = "without metrics"
READ: Final = "a StatsD that reads"
FROZEN: Final = "a StatsD that never reads"
NOBODY: Final = "nobody listening"
NAMELESS: Final = "a name that does not resolve"
TROUBLED: Final = (FROZEN, NOBODY, NAMELESS)
READER: Final = """
import socket, sys
reader = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
reader.bind(("127.0.0.1", int(sys.argv[1])))
buffer = bytearray(2048)
while True:
    reader.recv_into(buffer)
"""


def measure(plan: Plan) -> Iterator[Row]:
    posted = _samples(plan, partial(_posted, plan))
    yield from _rows("POST /tasks with metrics", posted, bar=0.9)
    yield from _rows("no-op tasks drained with metrics", _samples(plan, partial(_drained, plan)), bar=0.8)


def _samples(plan: Plan, measured: Callable[[Mapping[str, str]], float]) -> dict[str, list[float]]:
    def under(condition: str) -> Callable[[], float]:
        def sample() -> float:
            with _statsd(condition) as settings:
                return measured(settings)

        return sample

    conditions = (WITHOUT, READ, *TROUBLED)
    return interleaved(plan, {condition: under(condition) for condition in conditions})


def _rows(what: str, samples: Mapping[str, list[float]], bar: float) -> Iterator[Row]:
    for condition in (READ, *TROUBLED):
        yield Row(f"{what}, {condition}", PER_SECOND, samples[condition], WITHOUT, samples[WITHOUT], bar=bar)


@contextmanager
def _statsd(condition: str) -> Iterator[dict[str, str]]:
    """The settings under which the service tells somebody, or tries to."""
    port = servers.free_port()
    settings = {"STATSD_HOST": "127.0.0.1", "STATSD_PORT": str(port)}
    if condition == WITHOUT:
        yield {}
    elif condition == NAMELESS:
        yield settings | {"STATSD_HOST": "statsd.invalid"}
    elif condition == FROZEN:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
            channel.bind(("127.0.0.1", port))
            yield settings
    elif condition == READ:
        with (
            servers.folder() as folder,
            started([sys.executable, "-c", READER, str(port)], environment(), folder / "reader.log"),
        ):
            yield settings
    else:
        yield settings


def _posted(plan: Plan, settings: Mapping[str, str]) -> float:
    return web.service(plan, web.TASK, web.CONNECTIONS, **settings).rate


def _drained(plan: Plan, settings: Mapping[str, str]) -> float:
    with servers.service(**settings) as service:
        service.freeze()
        tasks = plan.size(TASKS)
        result: Drained = drained(service, service.runners(), tasks, lambda: service.create(tasks))
        return result.rate
