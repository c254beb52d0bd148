"""The last resort against a handler that holds the interpreter: a timer of the kernel's.

Its signal has no Python handler. It writes every thread's stack into the runner's lock file and ends
the process, even in the middle of a C call; the neighbour that takes over finds both there.

Python's own timers (signal.alarm, signal.setitimer) and their signals stay free for handlers. So this is one of the
timers of POSIX, of which a process may have many, with the last of the real-time signals. A system without them
(macOS) has no last resort.
"""

import ctypes
import faulthandler
import signal
import threading
import time
from typing import Any, Final

from service.runner.lockfile import NEVER

SIGNAL: Final = int(getattr(signal, "SIGRTMAX", 0))
LEAST_SECONDS: Final = 0.001


class Alarm:
    def __init__(self) -> None:
        self._deadlines: dict[int, float] = {}
        self._lock = threading.Lock()
        self._timer: _Timer | None = None

    def arm(self, stacks: Any) -> None:
        """From now on the signal ends the process, and writes to this file."""
        if SIGNAL:
            faulthandler.register(SIGNAL, file=stacks, all_threads=True, chain=True)
            self._timer = _Timer(SIGNAL)

    def set(self, lane: int, deadline: float) -> None:
        with self._lock:
            self._deadlines[lane] = deadline
            earliest = min(self._deadlines.values())
            self._ring_in(0.0 if earliest == NEVER else max(LEAST_SECONDS, earliest - time.monotonic()))

    def disarm(self) -> None:
        self._ring_in(0.0)

    def _ring_in(self, seconds: float) -> None:
        """Never, if that is 0."""
        if self._timer is not None:
            self._timer.set(seconds)


class _Signal(ctypes.Structure):
    """sigevent: 64 bytes, of which only the first say something of a signal."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("number", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("rest", ctypes.c_char * 48),
    )


class _Times(ctypes.Structure):
    """itimerspec: again and again after these, first after those."""

    _fields_ = tuple((name, ctypes.c_long) for name in ("every_s", "every_ns", "first_s", "first_ns"))


class _Timer:
    """timer_create(2). It is set twice a task, so what that needs is made once."""

    def __init__(self, signum: int) -> None:
        library = ctypes.PyDLL("librt.so.1")
        self._id = ctypes.c_void_p()
        event = _Signal(number=signum)  # to notify by a signal is 0
        if library.timer_create(time.CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(self._id)):
            raise OSError("the kernel gives this process no timer")
        self._times = _Times()
        self._given = ctypes.byref(self._times)
        self._set = library.timer_settime

    def set(self, seconds: float) -> None:
        whole = int(seconds)
        self._times.first_s = whole
        self._times.first_ns = int((seconds - whole) * 1e9)
        self._set(self._id, 0, self._given, None)
