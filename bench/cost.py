"""What telling others costs: `POST /tasks` and the no-op drain with metrics and errors on, against the same without.

The StatsD and the Sentry are processes that only read, so that no other server's work is measured; or ones
that never read, or nobody, or names that do not resolve. No errors happen in no-op tasks: what is measured
is being ready to report them.
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
WITHOUT: Final = "telling nobody"
READ: Final = "a StatsD and a Sentry that read"
FROZEN: Final = "a StatsD and a Sentry that never read"
NOBODY: Final = "nobody listening"
NAMELESS: Final = "names that do not resolve"
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
SENTRY: Final = """
import http.server, sys
class Sentry(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")
    def log_message(self, *words):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Sentry).serve_forever()
"""


def measure(plan: Plan) -> Iterator[Row]:
    posted = _samples(plan, partial(_posted, plan))
    yield from _rows("POST /tasks with metrics and errors", posted, bar=0.9)
    yield from _rows("no-op tasks drained with metrics and errors", _samples(plan, partial(_drained, plan)), bar=0.8)


def _samples(plan: Plan, measured: Callable[[Mapping[str, str]], float]) -> dict[str, list[float]]:
    def under(condition: str) -> Callable[[], float]:
        def sample() -> float:
            with _listeners(condition) as settings:
                return measured(settings)

        return sample

    conditions = (WITHOUT, READ, *TROUBLED)
    return interleaved(plan, {condition: under(condition) for condition in conditions})


def _rows(what: str, samples: Mapping[str, list[float]], bar: float) -> Iterator[Row]:
    for condition in (READ, *TROUBLED):
        yield Row(f"{what}, {condition}", PER_SECOND, samples[condition], WITHOUT, samples[WITHOUT], bar=bar)


@contextmanager
def _listeners(condition: str) -> Iterator[dict[str, str]]:
    """The settings under which the service tells somebody, or tries to."""
    port, sentry = servers.free_port(), servers.free_port()
    dsn = f"http://key@127.0.0.1:{sentry}/1"
    settings = {"STATSD_HOST": "127.0.0.1", "STATSD_PORT": str(port), "SENTRY_DSN": dsn}
    if condition == WITHOUT:
        yield {}
    elif condition == NAMELESS:
        yield settings | {"STATSD_HOST": "statsd.invalid", "SENTRY_DSN": "http://key@sentry.invalid/1"}
    elif condition == FROZEN:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel,
            socket.create_server(("127.0.0.1", sentry)),  # takes connections, and never answers
        ):
            channel.bind(("127.0.0.1", port))
            yield settings
    elif condition == READ:
        with (
            servers.folder() as folder,
            started([sys.executable, "-c", READER, str(port)], environment(), folder / "reader.log"),
            started([sys.executable, "-c", SENTRY, str(sentry)], environment(), folder / "sentry.log"),
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
