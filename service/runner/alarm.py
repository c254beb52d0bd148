"""The last resort against a handler that holds the interpreter: the kernel's own timer.

Its signal has no Python handler. It writes every thread's stack into the runner's lock file and ends
the process, even in the middle of a C call; the neighbour that takes over finds both there.
"""

import faulthandler
import signal
import threading
import time
from typing import Any

from service.runner.lockfile import NEVER


class Alarm:
    def __init__(self) -> None:
        self._deadlines: dict[int, float] = {}
        self._lock = threading.Lock()

    def arm(self, stacks: Any) -> None:
        """From now on the signal ends the process, and writes to this file."""
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        faulthandler.register(signal.SIGALRM, file=stacks, all_threads=True, chain=True)

    def set(self, lane: int, deadline: float) -> None:
        with self._lock:
            self._deadlines[lane] = deadline
            earliest = min(self._deadlines.values())
            left = 0.0 if earliest == NEVER else max(0.001, earliest - time.monotonic())
            signal.setitimer(signal.ITIMER_REAL, left)

    def disarm(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
