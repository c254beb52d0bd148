"""A whole sandbox in a folder of its own: real circusd, gunicorn, runners and Redis."""

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

from tests.servers import eventually, free_port

ROOT = Path(__file__).resolve().parent.parent.parent
SANDBOX = (sys.executable, "-m", "service.cli")
KINDS = {"web": "gunicorn", "runner": "service.cli runner", "redis": "valkey-server"}


class Process(NamedTuple):
    pid: int
    command: str

    @property
    def alive(self) -> bool:
        try:
            state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False
        return state not in "ZX"

    def is_a(self, kind: str) -> bool:
        return KINDS[kind] in self.command


@contextmanager
def frozen(*processes: Process) -> Iterator[None]:
    """Deaf to everything but SIGKILL."""
    for process in processes:
        os.kill(process.pid, signal.SIGSTOP)
    yield
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)


class Instance:
    def __init__(self, folder: Path, **variables: str) -> None:
        self.home = folder / "var"
        self.port = free_port()
        self.environment = {
            **{
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("SANDBOX_", "CIRCUS", "REDIS", "STATSD", "GRAPHITE", "SENTRY"))
            },
            "PYTHONPATH": str(ROOT),
            "SANDBOX_HOME": str(self.home),
            "SANDBOX_PORT": str(self.port),
            **variables,
        }
        self._folder = folder
        self._output = folder / "output"
        self._process: subprocess.Popen[bytes] | None = None

    def start(
        self, *words: str, environment: Mapping[str, str] | None = None, output: IO[bytes] | None = None
    ) -> "Instance":
        """In a process group of its own, as a terminal does it."""
        with output or self._output.open("wb") as output:
            self._process = subprocess.Popen(
                words or (*SANDBOX, "run"),
                cwd=self._folder,
                env=environment or self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self

    def started(self, *words: str, environment: Mapping[str, str] | None = None) -> "Instance":
        self.start(*words, environment=environment)
        eventually(self.is_ready, 30)
        eventually(self.is_whole)
        return self

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """One command, to its end."""
        return subprocess.run(
            words or (*SANDBOX, "run"),
            cwd=self._folder,
            env={**self.environment, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=180,
        )

    def variables(self) -> dict[str, str]:
        """The environment of a shell after `eval "$(sandbox env)"`."""
        script = 'eval "$("$@" env)" && env -0'
        shown = self.run("sh", "-c", script, "sh", *SANDBOX)
        assert shown.returncode == 0, shown.stderr
        return dict(line.split("=", 1) for line in shown.stdout.split("\0") if line)

    def circusctl(self, *words: str) -> str:
        done = self.ask(*words)
        return done.stdout + done.stderr

    def ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        program = Path(sys.executable).with_name("circusctl")
        return subprocess.run(
            (program, *words), env=self.variables(), capture_output=True, text=True, timeout=60, check=False
        )

    # --- what is seen of it -----------------------------------------------------------------------

    @property
    def output(self) -> str:
        return self._output.read_text()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def is_ready(self) -> bool:
        assert self.is_running(), self.output
        try:
            return self.call("GET", "/health/ready")[0] == 200
        except OSError:
            return False

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        finally:
            connection.close()

    def create(self, type: str, **args: Any) -> str:
        status, task = self.call("POST", "/tasks", {"type": type, "args": args})
        assert status == 201, task
        return str(task["uid"])

    def task(self, uid: str) -> dict[str, Any]:
        status, task = self.call("GET", f"/tasks?task_id={uid}")
        assert status == 200, task
        return dict(task)

    def succeeded(self, uid: str) -> bool:
        return self.task(uid)["status"] == "succeeded"

    def processes(self) -> list[Process]:
        """Everything alive that was started for this state folder. (Valkey's title overwrites its environment.)"""
        mark, socket = f"SANDBOX_HOME={self.home}".encode(), f":{self.home}/run/".encode()
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit():
                    command = (entry / "cmdline").read_bytes()
                    if socket in command or mark in (entry / "environ").read_bytes().split(b"\0"):
                        found.append(Process(int(entry.name), command.replace(b"\0", b" ").decode()))
            except OSError:
                continue
        return [process for process in found if process.alive]

    def kinds(self) -> dict[str, list[Process]]:
        processes = self.processes()
        return {kind: [process for process in processes if process.is_a(kind)] for kind in KINDS}

    def is_whole(self) -> bool:
        """The service is ready when its first worker is."""
        workers = int(self.environment.get("SANDBOX_WEB_WORKERS", "2"))
        return len(self.kinds()["web"]) == 1 + workers

    def is_gone(self) -> None:
        """Waits a moment for the end of all processes; if some are left, fails and names them."""
        until = time.monotonic() + 1
        while (processes := self.processes()) and time.monotonic() < until:
            time.sleep(0.01)
        assert not processes

    # --- its end ----------------------------------------------------------------------------------

    def interrupt(self) -> None:
        """Ctrl-C: the terminal sends it to the whole group."""
        os.killpg(self.pid, signal.SIGINT)

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    def wait(self, seconds: float = 30) -> int:
        assert self._process is not None
        return self._process.wait(seconds)

    def kill(self) -> None:
        """circusd alone."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def stop(self) -> int:
        self.terminate()
        return self.wait()

    def clean_up(self) -> None:
        """Whatever a failed test left."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for process in self.processes():
            os.kill(process.pid, signal.SIGKILL)


def deaths(kinds: Mapping[str, list[Process]], seconds: float = 30) -> list[str]:
    """The kinds in the order in which their processes go, told of each as soon as its last one is gone."""
    order: list[str] = []

    def all_gone() -> bool:
        for kind, processes in kinds.items():
            if kind not in order and not any(process.alive for process in processes):
                order.append(kind)
        return len(order) == len(kinds)

    eventually(all_gone, seconds, 0.005)
    return order
