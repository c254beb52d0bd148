"""Real Redis servers for the tests: the embedded one, Debian's, and a cluster of three."""

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from service.embedded import valkey

# A promise of seconds is kept on a machine of its own; one that is busy with other work may take so many times as long.
BUSY = 3

EMBEDDED = "embedded"
DEBIAN = "redis-server"


def eventually(condition: Callable[[], Any], seconds: float = 60.0, pause: float = 0.01) -> Any:
    """Returns the condition's first true value; fails if there is none in time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if value := condition():
            return value
        time.sleep(pause)
    raise AssertionError(f"not within {seconds} s: {condition}")


LOWEST_PORT = 10_000
EPHEMERAL = 32_768  # the kernel hands out the ports from here on to clients: a free one is soon taken
CLUSTER_BUS = 10_000
CHANCE = random.SystemRandom()  # not the one that hypothesis seeds
LATELY: deque[int] = deque(maxlen=100)  # ports that were given out


def free_port(above: int = 0) -> int:
    """A port by chance, out of those of this process of pytest. The one so far `above` it is free, too.

    Two calls give two ports, though nobody listens at the first one yet.
    """
    share = (EPHEMERAL - above - LOWEST_PORT) // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    lowest = LOWEST_PORT + share * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    for _ in range(100):
        port = CHANCE.randrange(lowest, lowest + share)
        if port not in LATELY and _is_free(port) and _is_free(port + above):
            LATELY.append(port)
            return port
    raise AssertionError("no free port")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


class RedisServer:
    """One server on a unix socket in its own folder."""

    def __init__(self, folder: Path, kind: str = EMBEDDED) -> None:
        self.folder = folder
        self.socket = folder / "r.sock"
        self.url = f"unix://{self.socket}"
        self._kind = kind
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> "RedisServer":
        words = valkey.command(self.socket, self.folder)
        if self._kind == DEBIAN:
            words[0] = str(shutil.which(DEBIAN))
        with open(self.folder / "redis.log", "ab") as log:
            self._process = subprocess.Popen([*words, *options], stdout=log, stderr=log, env=valkey.environment())
        eventually(self._answers)
        return self

    def _answers(self) -> bool:
        try:
            return bool(self.client().ping())
        except redis.RedisError:
            return False

    def client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.socket), socket_timeout=5)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def _end(self, signum: int) -> None:
        if self._process is not None:
            self._process.send_signal(signum)
            self._process.wait(timeout=10)
            self._process = None


SLOTS = 16_384


class RedisCluster:
    """Three nodes on loopback, each with a third of the slots."""

    NODES = 3

    def __init__(self, folder: Path, kind: str = EMBEDDED) -> None:
        self._folder = folder
        self._kind = kind
        self.nodes: list[RedisServer] = []
        self.ports: list[int] = []

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port in self.ports)

    def start(self) -> "RedisCluster":
        try:
            for number in range(self.NODES):
                self._start_node(number)
            self._join()
        except BaseException:
            self.stop()
            raise
        return self

    def _start_node(self, number: int) -> None:
        folder = self._folder / str(number)
        folder.mkdir()
        self.nodes.append(RedisServer(folder, self._kind))
        self.ports.append(free_port(above=CLUSTER_BUS))
        self.start_again(number)

    def start_again(self, number: int) -> None:
        """A node, with what it had."""
        port = self.ports[number]
        self.nodes[number].start(
            *("--port", str(port), "--bind", "127.0.0.1", "--cluster-enabled", "yes"),
            *("--cluster-port", str(port + CLUSTER_BUS), "--cluster-node-timeout", "2000"),
        )

    def _join(self) -> None:
        clients = [node.client() for node in self.nodes]
        bounds = [SLOTS * number // self.NODES for number in range(self.NODES + 1)]
        for number, client in enumerate(clients):
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
            if number > 0:
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", self.ports[0], self.ports[0] + CLUSTER_BUS)
        eventually(lambda: all(map(self._is_whole, clients)))
        for client in clients:
            client.close()

    def _is_whole(self, client: redis.Redis) -> bool:
        info = client.execute_command("CLUSTER", "INFO").split()
        return b"cluster_state:ok" in info and f"cluster_known_nodes:{self.NODES}".encode() in info

    def stop(self) -> None:
        for node in self.nodes:
            node.kill()
