"""Work in steps that delay nobody for long, with rests: short of processors, those that serve wait for whatever starts.

What this module imports is imported before a process can start gently, so that is little.
"""

import os
import signal
import time
from collections.abc import Callable
from types import FrameType

STEP_SECONDS = 0.001
REST_SECONDS = 0.004

sleep = time.sleep  # gevent replaces it in a worker: others would go on there


def begin(is_over: Callable[[], bool], of: int = 1) -> None:
    """This process, one of so many, rests most of the time until that `is_over`, or it is told to `hurry`."""
    pause = REST_SECONDS * max(1, of / (os.cpu_count() or 1))

    def rest(_: int, __: FrameType | None) -> None:
        if not is_over():
            sleep(pause)
            signal.setitimer(signal.ITIMER_REAL, STEP_SECONDS)

    at_alarm(rest)
    signal.setitimer(signal.ITIMER_REAL, STEP_SECONDS)


def at_alarm(handle: Callable[[int, FrameType | None], None]) -> None:
    signal.signal(signal.SIGALRM, handle)
    signal.siginterrupt(signal.SIGALRM, False)


def hurry() -> None:
    at_alarm(_ignore)  # the signal may be on its way already
    signal.setitimer(signal.ITIMER_REAL, 0)


def _ignore(_: int, __: FrameType | None) -> None:
    pass
