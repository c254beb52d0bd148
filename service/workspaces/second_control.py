"""Starts, asks and ends the circusd of the workspaces (second_circusd.py). It lives on when the service ends, in a
session of its own and without the service's environment.
"""

import fcntl
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import psutil
import zmq

from service.workspaces import recipes, whose
from service.workspaces.hands import HandsFailed

ALIVE: Final = "alive.lock"  # circusd holds it while it lives
CALL_SECONDS: Final = 60.0
START_SECONDS: Final = 60.0
END_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 0.05
ANSWER_MILLISECONDS: Final = 200
CONFLICT_SECONDS: Final = 60.0
PACKAGES: Final = Path(__file__).resolve().parents[2]
DETACH: Final = "import os, sys; os.fork() and os._exit(0); os.setsid(); os.execv(sys.argv[1], sys.argv[1:])"


class SecondCircusd:
    def __init__(self, run: Path, homes: Path) -> None:
        """`run` is its own folder, and `homes` has the workspaces."""
        self._run = run
        self._homes = homes

    def is_alive(self) -> bool:
        try:
            with open(self._run / ALIVE, "rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            pass
        return False

    def start(self) -> None:
        """Its files are there. The caller has its turn."""
        self._end_what_is_left()
        words = [sys.executable, "-P", "-m", "service.workspaces.second_circusd", str(self._run / "circus.ini")]
        environment = {"PATH": recipes.PATH, "LANG": "C.UTF-8", "PYTHONPATH": str(PACKAGES)}
        with open(self._run / "output.log", "ab") as output:
            subprocess.run(
                [sys.executable, "-I", "-c", DETACH, *words],
                env=environment, cwd=self._run, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                check=True,
            )  # fmt: skip
        until = time.monotonic() + START_SECONDS
        while not (self.is_alive() and self._answers()):
            if time.monotonic() > until:
                raise HandsFailed(f"the circusd of the workspaces does not start: see {self._run}/output.log")
            time.sleep(LOOK_SECONDS)

    def halt(self) -> bool:
        """Ends it, and all that it runs; the files stay for the next one. Returns whether there was anything."""
        if not self._run.is_dir():
            return False
        with self.turn():
            ran = self.is_alive()
            if ran:
                self._quit()
            until = time.monotonic() + END_SECONDS
            while self.is_alive():
                if time.monotonic() > until:
                    raise HandsFailed(f"the circusd of the workspaces does not end: see {self._run}/circus.log")
                time.sleep(LOOK_SECONDS)
            return self._end_what_is_left() or ran

    def _quit(self) -> None:
        try:
            self.call("quit")
        except HandsFailed:
            if self.is_alive():
                raise

    def _answers(self) -> bool:
        with suppress(HandsFailed):
            self.call("numwatchers", seconds=1.0)
            return True
        return False

    def _end_what_is_left(self) -> bool:
        """By a circusd that was killed: its processes hold sockets that nobody reaches."""
        left = [*whose.marked(self._homes, whose.WEB), *self._nginxes()]
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return bool(left)

    def nginx_listens(self) -> bool:
        """It writes its number down once it does."""
        with suppress(FileNotFoundError, ValueError, psutil.Error):
            process = psutil.Process(int((self._run / "nginx.pid").read_text()))
            return f"{self._run}/nginx.conf" in " ".join(process.cmdline())
        return False

    def end_orphans_of_nginx(self) -> None:
        """Workers outlive a master that was killed, and keep its port."""
        ours = self._nginxes()
        for pid in ours:
            with suppress(psutil.Error):
                process = psutil.Process(pid)
                if process.ppid() not in ours and "worker" in " ".join(process.cmdline()):
                    process.kill()

    def _nginxes(self) -> list[int]:
        """None of the host's, or another service's: those that have this one's log."""
        found = []
        for process in psutil.process_iter(["name"]):
            with suppress(psutil.Error):
                if process.info["name"] == "nginx" and self._has_our_log(process):
                    found.append(process.pid)
        return found

    def _has_our_log(self, process: psutil.Process) -> bool:
        """Also one that somebody has moved aside."""
        log = os.path.realpath(self._run / "nginx.log")
        return any(each.path.startswith(log) for each in process.open_files())

    def call(self, command: str, *, known: tuple[str, ...] = (), seconds: float = CALL_SECONDS, **what: Any) -> Any:
        """Tried again while circusd does something else."""
        until = time.monotonic() + CONFLICT_SECONDS
        while True:
            answer = self._asked({"id": secrets.token_hex(8), "command": command, "properties": what}, seconds)
            reason = str(answer.get("reason", ""))
            if answer.get("status") != "error" or any(each in reason for each in known):
                return answer
            if "already running" not in reason or time.monotonic() > until:
                raise HandsFailed(f"the circusd of the workspaces refuses {command}: {reason}")
            time.sleep(LOOK_SECONDS)

    def _asked(self, message: dict[str, Any], seconds: float) -> dict[str, Any]:
        """One that dies meanwhile is not waited for."""
        until = time.monotonic() + seconds
        line: Any
        with zmq.Context.instance().socket(zmq.DEALER) as line:
            line.setsockopt(zmq.IDENTITY, message["id"].encode())
            line.setsockopt(zmq.LINGER, 0)
            line.connect(f"ipc://{self._run}/control.sock")
            line.send_json(message)
            while time.monotonic() < until and self.is_alive():
                if line.poll(ANSWER_MILLISECONDS):
                    answer = line.recv_json()
                    if isinstance(answer, dict) and answer.get("id") == message["id"]:
                        return answer
        raise HandsFailed("the circusd of the workspaces does not answer")

    @contextmanager
    def turn(self) -> Iterator[None]:
        """One at a time changes something."""
        self._run.mkdir(parents=True, exist_ok=True, mode=0o750)
        with open(self._run / "turn.lock", "rb", opener=_readable_by_its_folder) as file:
            while True:
                with suppress(BlockingIOError):
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                time.sleep(LOOK_SECONDS)
            yield


def _readable_by_its_folder(path: str, _: int) -> int:
    """Root halts, too: to lock it, reading is enough, and who may enter its folder may read it, whoever has made it."""
    while True:
        with suppress(FileNotFoundError):
            return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with suppress(FileExistsError):
            descriptor = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
            os.fchmod(descriptor, 0o644)
            return descriptor
