"""A release on trial: its processes beside those that serve, until all are ready or one thing is wrong.

Each trial has a folder; candidate.py is the processes' side of it. Its name is in the environment of all that they
start, so that nothing of a refused trial is left, whatever group or session it has fled into.
"""

import contextlib
import os
import re
import shutil
import signal
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import psutil
from tornado import gen

from service.supervise.reload import candidate, gentle
from service.supervise.reload.release import Release

LOOK_SECONDS: Final = 0.05
SHOWN_LINES: Final = 12
SHOWN_FRAMES: Final = 6
ASKED_SECONDS: Final = 5.0
SILENT_SECONDS: Final = 0.3
THREAD: Final = "(most recent call first):"  # before each thread of what faulthandler writes
DUMP: Final = re.compile(r"^(?:Current thread|Thread) 0x", re.MULTILINE)  # its beginning
READ_BYTES: Final = 16 * 1024
SWEEPS: Final = 20
GENTLE: Final = 1 / 4  # of its time; then it hurries

# Standard error goes into the trial's folder, and is kept in place of standard input until the trial is over.
COMMAND: Final = f"""sh -c 'exec 0<&2 2>>"${candidate.VARIABLE}/{candidate.OUTPUT}"; exec "$@"' sh """


class Trial:
    def __init__(self, release: Release, folder: Path, patience_seconds: float) -> None:
        self.release = release
        self._patience = patience_seconds
        self.processes: list[Any] = []
        self._weights: dict[int, int] = {}
        self.problem: str | None = None
        self._began = time.monotonic()
        self._folder = folder / uuid.uuid4().hex
        self._folder.mkdir(parents=True, mode=0o700)
        (self._folder / candidate.BEGUN).write_text(f"{self._began} {patience_seconds}")

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    @property
    def environment(self) -> dict[str, str]:
        return {candidate.VARIABLE: str(self._folder)}

    @property
    def output(self) -> str:
        """The last lines that its processes have printed."""
        return "\n".join([line for line in _in_order(self._printed()).splitlines() if line.strip()][-SHOWN_LINES:])

    def _printed(self) -> str:
        try:
            with open(self._folder / candidate.OUTPUT, "rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - READ_BYTES))
                return file.read(READ_BYTES).decode(errors="replace")
        except OSError:
            return ""

    def add(self, process: Any) -> None:
        self.processes.append(process)
        self._weigh(gentle.LOW)

    async def verdict(self, is_stopping: Callable[[], bool]) -> str | None:
        """Returns what is wrong with it, or None when all of its processes are ready."""
        while self.problem is None:
            self._weigh(gentle.USUAL if self.seconds > self._patience * GENTLE else gentle.LOW)
            if is_stopping():
                self.problem = "the service is stopping"
            elif self._has_failed():
                self.problem = f"a process of it ended before it was ready{self._how_it_ended()}"
            elif self._is_ready():
                return None
            elif self.seconds > self._patience:
                await self._ask_where()
                self.problem = f"it was not ready within {self._patience:g} s (SANDBOX_RELOAD)"
            else:
                await gen.sleep(LOOK_SECONDS)
        return self.problem

    async def _ask_where(self) -> None:
        """None of it could say where it is: one holds the interpreter. They are asked one after the other, the youngest
        first, until one has answered: two answers would get into each other. Those that do not answer end; so be it.
        """
        if not candidate.WHERE or candidate.SAYS_WHERE in self._printed():
            return
        until = time.monotonic() + ASKED_SECONDS
        for process in sorted(self._members(), key=lambda process: -process.pid):
            if await self._answered(process, until):
                return

    async def _answered(self, process: psutil.Process, until: float) -> bool:
        """An answer comes a thread at a time, the main one last, and has no end of its own: silence ends it."""
        said = self._printed()
        _send(process, candidate.WHERE)
        heard = time.monotonic()
        while (now := time.monotonic()) < until and _has(process, self.environment):
            await gen.sleep(LOOK_SECONDS)
            if (printed := self._printed()) != said:
                said, heard = printed, now
            elif THREAD in said and now - heard >= SILENT_SECONDS:
                break
        return THREAD in said

    def _weigh(self, nice: int) -> bool:
        """Returns whether all of its processes have that weight."""
        others = [process.pid for process in self.processes if self._weights.get(process.pid, gentle.USUAL) != nice]
        self._weights |= {pid: nice for pid in others if gentle.weigh(pid, nice)}
        return all(self._weights.get(pid) == nice for pid in others)

    def _has_failed(self) -> bool:
        return any(self._folder.glob(f"{candidate.FAILED}.*")) or not all(
            process.is_alive() for process in self.processes
        )

    def _how_it_ended(self) -> str:
        """What has left a mark has said why. Of one that was not able to, the kernel tells."""
        dead = [process for process in self.processes if not process.is_alive() and process.returncode()]
        return f": process {dead[0].pid} {ending(dead[0].returncode())}" if dead else ""

    def _is_ready(self) -> bool:
        """gunicorn leaves a mark for each of its workers. A mark says how many there will be of its process."""
        marks = [mark.name.split(".") for mark in self._folder.glob(f"{candidate.READY}.*")]
        return bool(self.processes) and len(marks) >= len(self.processes) * max(
            (int(of) for *_, of in marks), default=1
        )

    def accept(self) -> None:
        """All that wait begin at once. The folder is renamed first: one may write into it while it is removed."""
        over = self._folder.with_suffix(".over")
        self._folder.rename(over)
        shutil.rmtree(over, ignore_errors=True)

    async def hurry(self) -> None:
        """When it is accepted: it gets its share of the processors. Linux may need a while with many processes."""
        while not self._weigh(gentle.USUAL):
            await gen.sleep(LOOK_SECONDS)

    def end(self) -> None:
        """Kills all of it. None has begun any work."""
        for process in self.processes:
            end_group(process.pid)
        for _ in range(SWEEPS):
            if not self._sweep():
                break
        for process in self.processes:
            process.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _members(self) -> list[psutil.Process]:
        """What has the trial's folder in its environment."""
        return [process for process in psutil.process_iter() if _has(process, self.environment)]

    def _sweep(self) -> bool:
        """Kills them. Returns whether there were any."""
        found = self._members()
        for process in found:
            _send(process, signal.SIGKILL)
        return bool(found)


def _in_order(printed: str) -> str:
    """Faulthandler begins with the innermost call, and writes the main thread last. Here it is as in a traceback."""
    if THREAD not in printed:
        return printed
    before, main = DUMP.split(printed, maxsplit=1)[0], printed.rpartition(THREAD)[2]
    frames = [line for line in main.splitlines() if line.startswith("  File ")][:SHOWN_FRAMES]
    return "\n".join([before, candidate.SAYS_WHERE, *reversed(frames)])


def _has(process: psutil.Process, variables: dict[str, str]) -> bool:
    try:
        return bool(process.environ().items() >= variables.items() and process.status() != psutil.STATUS_ZOMBIE)
    except (psutil.Error, OSError):
        return False


def _send(process: psutil.Process, signum: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        process.send_signal(signum)


def ending(code: int | None) -> str:
    """A negative code is a signal. None: something else has waited for the process, and has its code."""
    if code is None:
        return "has ended"
    return f"was ended by signal {-code}" if code < 0 else f"has ended with code {code}"


def end_group(leader: int) -> None:
    """Kills what is left of a process of circus's, which is the leader of a group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
