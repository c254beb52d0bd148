"""What is measured: the service as `sandbox run` starts it, and for the peers a Redis with the same flags."""

import http.client
import json
import socket
import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psutil
import redis

from bench.processes import ROOT, Program, environment, eventually, freeze, started, thaw, words_of
from service.embedded import valkey

SANDBOX: Final = str(ROOT / ".venv" / "bin" / "sandbox")  # what `make run` starts
BATCH: Final = 1000
JSON: Final = {"Content-Type": "application/json"}
SHELF: Final = "sandbox:{0}:shelf:echo:default:"


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sandbox-bench-", ignore_cleanup_errors=True) as name:
        yield Path(name)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def used_memory(client: redis.Redis) -> int:
    """What Redis has allocated, when it does nothing beside."""
    eventually(lambda: not client.info("persistence")["aof_rewrite_in_progress"], seconds=120)
    return int(client.info("memory")["used_memory"])


def resident_memory(client: redis.Redis) -> int:
    """What its process takes of the machine's memory."""
    return int(psutil.Process(client.info("server")["process_id"]).memory_info().rss)


@contextmanager
def fresh_redis(home: Path) -> Iterator[Path]:
    """The path of its socket."""
    path = home / "redis.sock"
    with started(
        [*valkey.command(path, home), "--appendfsync", "everysec"], valkey.environment(), home / "redis.log"
    ) as program:
        wait_for_redis(path, program)
        yield path


def wait_for_redis(path: Path, program: Program) -> None:
    def answers() -> bool:
        program.check()
        try:
            return bool(redis.Redis(unix_socket_path=str(path)).ping())
        except redis.RedisError:
            return False

    eventually(answers)


class Service:
    def __init__(self, program: Program, home: Path, port: int) -> None:
        self.port = port
        self.url = f"http://127.0.0.1:{port}/tasks"
        self.redis = redis.Redis(unix_socket_path=str(home / "run" / "redis.sock"))
        self._program = program

    def count(self, status: str = "succeeded") -> int:
        return int(self.redis.zcard(SHELF + status))

    def runners(self) -> list[psutil.Process]:
        return [process for process in self._program.family() if "runner" in words_of(process)]

    def web_workers(self) -> list[psutil.Process]:
        return [
            process
            for process in self._program.family()
            if "service.cli.serve" in words_of(process) and "service.cli.serve" in words_of(process.parent())
        ]

    def freeze(self) -> None:
        freeze(self.runners())

    def thaw(self) -> None:
        thaw(self.runners())

    def create(self, count: int, type: str = "echo") -> None:
        """By two clients, as batches; whatever doesn't make a whole batch is one of its own."""
        sizes = deque([BATCH] * (count // BATCH) + [count % BATCH] * (count % BATCH > 0))
        with ThreadPoolExecutor(2) as clients:
            try:
                list(clients.map(self._create_all, (sizes, sizes), (type, type)))
            finally:
                sizes.clear()  # an interrupted run does not wait for the rest

    def _create_all(self, sizes: deque[int], type: str) -> None:
        connection = self.connection()
        while (size := _next(sizes)) is not None:
            self.ask(connection, "POST", "/tasks/batch", [{"type": type}] * size)
        connection.close()

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def ask(self, connection: http.client.HTTPConnection, method: str, path: str, body: Any = None) -> Any:
        connection.request(method, path, None if body is None else json.dumps(body), JSON)
        answer = connection.getresponse()
        content = answer.read()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {content[:500]!r}")
        return json.loads(content)

    def is_ready(self) -> bool:
        self._program.check()
        try:
            self.ask(self.connection(), "GET", "/health/ready")
            waiting = int(self.redis.info("clients")["blocked_clients"])
        except (OSError, RuntimeError, http.client.HTTPException, redis.RedisError):
            return False
        return len(self.runners()) == waiting > 0

    def warm_up(self, count: int = 500) -> None:
        self.create(count)
        eventually(lambda: self.count() == count)


def _next(sizes: deque[int]) -> int | None:
    try:
        return sizes.popleft()
    except IndexError:
        return None


@contextmanager
def service(**settings: str) -> Iterator[Service]:
    """Freshly started with the settings it ships with, but for the home, the port, and these; warmed up."""
    with folder() as home, started_in(home, **settings) as running:
        running.warm_up()
        yield running


@contextmanager
def started_in(home: Path, **settings: str) -> Iterator[Service]:
    """As `make run` starts it; each process is ready."""
    port = free_port()
    own = environment(SANDBOX_HOME=str(home / "var"), SANDBOX_PORT=str(port), **settings)
    with started([SANDBOX, "run"], own, home / "output.log") as program:
        running = Service(program, home / "var", port)
        eventually(running.is_ready, pause=0.01)
        yield running


def prepare() -> None:
    """The first start after a change writes bytecode, and weighs more for it: it is not measured."""
    with folder() as home, started_in(home):
        pass
