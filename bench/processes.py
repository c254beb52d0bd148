"""Programs under measurement: started in a session of their own, frozen, thawed, weighed, and ended for certain."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import fmean
from typing import Final, TypeVar

import psutil

ROOT: Final = Path(__file__).absolute().parent.parent
STOP_SECONDS: Final = 30.0
# What a person has set for a service of their own must not reach the ones that are measured.
FOREIGN: Final = (
    "SANDBOX_",
    "REDIS_URL",
    "STATSD_",
    "GRAPHITE_",
    "SENTRY_",
    "CIRCUS",
    "GUNICORN_",
    "CELERY_",
    "PYTHON",
)

Found = TypeVar("Found")


def environment(**more: str) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    return inherited | more


def eventually(condition: Callable[[], Found], *, seconds: float = 30.0, pause: float = 0.02) -> Found:
    """The condition's first true value."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if found := condition():
            return found
        time.sleep(pause)
    raise TimeoutError(f"not within {seconds:g} s: {condition.__qualname__}")


class Program:
    """A process and its descendants."""

    def __init__(self, words: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        self._log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=ROOT,
                env=environment,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def family(self) -> list[psutil.Process]:
        try:
            own = psutil.Process(self._process.pid)
            return [own, *own.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def check(self) -> None:
        if self._process.poll() is not None:
            tail = self._log.read_text(errors="replace")[-2000:]
            raise RuntimeError(f"{self._process.args!r} ended with code {self._process.returncode}:\n{tail}")

    def stop(self) -> None:
        family = self.family()
        thaw(family)
        self._process.terminate()
        _, left = psutil.wait_procs(family, timeout=STOP_SECONDS)
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()


@contextmanager
def started(words: Sequence[str], environment: Mapping[str, str], log: Path) -> Iterator[Program]:
    program = Program(words, environment, log)
    try:
        yield program
    finally:
        program.stop()


def words_of(process: psutil.Process | None) -> list[str]:
    """Its command line; none if it has ended."""
    with suppress(psutil.NoSuchProcess):
        return process.cmdline() if process else []
    return []


def freeze(processes: Iterable[psutil.Process]) -> None:
    _signal(processes, signal.SIGSTOP)


def thaw(processes: Iterable[psutil.Process]) -> None:
    _signal(processes, signal.SIGCONT)


def _signal(processes: Iterable[psutil.Process], signum: int) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signum)


def resident_mb(processes: Iterable[psutil.Process]) -> float:
    """Of each process on average."""
    return fmean(process.memory_info().rss / 1e6 for process in processes)


def processor_seconds(processes: Iterable[psutil.Process]) -> float:
    """What they have used so far, of user's time and of system's."""
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def complain(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
