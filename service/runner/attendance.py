"""A duty: tells, for GET /runners, that this runner is at work, and what it executes."""

import os
import resource
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from service.errors import SandboxError
from service.runner.lane import Lane
from service.runner.upkeep import Upkeep
from service.store import READS, AtWork, Executing, Store
from service.tasks import moments

TELL_SECONDS: Final = 2.0
STATM: Final = Path("/proc/self/statm")


class Attendance:
    def __init__(
        self, lanes: Sequence[Lane], *, store: Store, runner: str, queues: Sequence[str], release: str
    ) -> None:
        self._lanes = lanes
        self._roster = store.roster
        self._runner = runner
        self._queues = list(queues)
        self._release = release
        self._started_at = moments.stamp(time.time())

    def register(self, upkeep: Upkeep) -> None:
        upkeep.every(TELL_SECONDS, self.tell)

    def begin(self) -> None:
        """Before it takes anything: who sees its consumer finds it in the roster."""
        with suppress(SandboxError):
            self.tell()

    def tell(self) -> None:
        self._roster.enter(
            AtWork(
                runner=self._runner,
                host=socket.gethostname(),
                pid=os.getpid(),
                release=self._release,
                started_at=self._started_at,
                memory=resident_bytes(),
                queues=self._queues,
                threads=len(self._lanes),
                executing=[each for lane in self._lanes if (each := _executing(lane))],
                reads=READS,
            )
        )

    def end(self) -> None:
        """If it cannot be told, the line passes by itself."""
        with suppress(SandboxError):
            self._roster.leave(self._runner)


def _executing(lane: Lane) -> Executing | None:
    if (running := lane.running) is None:
        return None
    task = running.held.document.task
    return Executing(uid=task.uid, type=task.type, queue=task.queue, since=moments.stamp(running.started))


def resident_bytes() -> int:
    """Of this process. Where the kernel does not tell that of now: the most that it ever was."""
    with suppress(OSError, ValueError, IndexError):
        return int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
