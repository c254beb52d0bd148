"""The peers: how each is started, how one sees that its workers wait, and where its results are counted.

Every one of them stores the result of each task, and the count costs Redis one O(1) command.
"""

import json
import os
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil
import redis

from bench import processes
from bench.processes import Program, complain, environment, eventually, started
from bench.servers import folder, fresh_redis

HERE: Final = Path(__file__).absolute().parent
VENV: Final = HERE / ".venv"
REQUIREMENTS: Final = HERE / "requirements-peers.txt"
PYTHON: Final = str(VENV / "bin" / "python")
RESULTS: Final = 1  # the database that some keep their results in, and nothing else


@dataclass(frozen=True)
class Peer:
    name: str
    app: str
    workers: tuple[tuple[str, ...], ...]
    ready: Callable[[redis.Redis], bool]
    count: Callable[[redis.Redis, redis.Redis], int]


def _blocked(count: int) -> Callable[[redis.Redis], bool]:
    return lambda broker: int(broker.info("clients")["blocked_clients"]) >= count


HUEY: Final = Peer(
    "Huey",
    "bench.peers.huey_app",
    (("huey.bin.huey_consumer", "bench.peers.huey_app.huey", "-w", "2", "-k", "process", "--quiet"),),
    _blocked(2),
    lambda broker, results: int(broker.hlen("huey.results.peers")),
)
CELERY: Final = Peer(
    "Celery prefork",
    "bench.peers.celery_app",
    (("celery", "-A", "bench.peers.celery_app", "worker", "-P", "prefork", "-c", "2"),),
    _blocked(1),
    lambda broker, results: int(results.dbsize()),
)
DRAMATIQ: Final = Peer(
    "Dramatiq",
    "bench.peers.dramatiq_app",
    (("dramatiq", "bench.peers.dramatiq_app", "-p", "2", "-t", "8"),),
    lambda broker: broker.zcard("dramatiq:__heartbeats__") >= 2,
    lambda broker, results: int(results.dbsize()),
)
RQ: Final = Peer(
    "RQ SimpleWorker",
    "bench.peers.rq_app",
    (("bench.peers.rq_app",),) * 2,
    _blocked(2),
    lambda broker, results: int(broker.zcard("rq:finished:default")),
)


class Running:
    def __init__(self, peer: Peer, socket: Path, programs: list[Program]) -> None:
        self.redis = redis.Redis(unix_socket_path=str(socket))
        self.results = redis.Redis(unix_socket_path=str(socket), db=RESULTS)
        self._peer = peer
        self._programs = programs
        self._environment = environment(BENCH_REDIS=str(socket))

    def count(self) -> int:
        return self._peer.count(self.redis, self.results)

    def is_ready(self) -> bool:
        for program in self._programs:
            program.check()
        return self._peer.ready(self.redis)

    def create(self, count: int, send: str = "send") -> float:
        """By one process, with this function of its app; answers how many a second."""
        return float(self._run("bench.peers.enqueue", str(count), send)["rate"])

    def moments(self, count: int) -> list[tuple[float, float, float]]:
        return [tuple(moments) for moments in self._run("bench.peers.latency", str(count))["moments"]]

    def _run(self, module: str, *words: str) -> Any:
        command = [PYTHON, "-m", module, self._peer.app, *words]
        done = subprocess.run(command, env=self._environment, cwd=processes.ROOT, check=True, stdout=subprocess.PIPE)
        return json.loads(done.stdout)

    def warm_up(self, count: int = 500) -> None:
        self.create(count)
        eventually(lambda: self.count() == count)

    def workers(self) -> list[psutil.Process]:
        """Those that execute tasks: a process without children."""
        family = [process for program in self._programs for process in program.family()]
        return [process for process in family if not process.children()]

    def freeze(self) -> None:
        for program in self._programs:
            processes.freeze(program.family())

    def thaw(self) -> None:
        for program in self._programs:
            processes.thaw(program.family())


@contextmanager
def running(peer: Peer) -> Iterator[Running]:
    """Freshly started on a fresh Redis, and warmed up."""
    with ExitStack() as stack:
        home = stack.enter_context(folder())
        socket = stack.enter_context(fresh_redis(home))
        own = environment(BENCH_REDIS=str(socket))
        programs = [
            stack.enter_context(started([PYTHON, "-m", *words], own, home / f"worker-{number}.log"))
            for number, words in enumerate(peer.workers)
        ]
        workers = Running(peer, socket, programs)
        eventually(workers.is_ready)
        workers.warm_up()
        yield workers


def prepare() -> None:
    """The peers' virtualenv: made once, and anew when the list of packages has changed."""
    stamp = VENV / "made-from.txt"
    if stamp.is_file() and stamp.read_text() == REQUIREMENTS.read_text():
        return
    complain(f"making {VENV.relative_to(HERE.parent)} for the peers")
    venv.create(VENV, with_pip=True, clear=True)
    pip = [PYTHON, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "-r", str(REQUIREMENTS)], check=True, stdout=sys.stderr, env=os.environ)
    stamp.write_text(REQUIREMENTS.read_text())
