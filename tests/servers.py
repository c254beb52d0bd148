"""Real Redis servers for the tests: the embedded one, Debian's, and a cluster of three."""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from service import embedded

EMBEDDED = "embedded"
DEBIAN = "redis-server"


def eventually(condition: Callable[[], Any], seconds: float = 10.0, pause: float = 0.01) -> Any:
    """The condition's first true value; fails if there is none in time."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if value := condition():
            return value
        time.sleep(pause)
    raise AssertionError(f"not within {seconds} s: {condition}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RedisServer:
    """One server on a unix socket in its own folder."""

    def __init__(self, folder: Path, kind: str = EMBEDDED) -> None:
        self.folder = folder
        self.socket = folder / "r.sock"
        self.url = f"unix://{self.socket}"
        self._kind = kind
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> "RedisServer":
        words = embedded.command(self.socket, self.folder)
        if self._kind == DEBIAN:
            words[0] = str(shutil.which(DEBIAN))
        with open(self.folder / "redis.log", "ab") as log:
            self._process = subprocess.Popen([*words, *options], stdout=log, stderr=log, env=embedded.environment())
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
