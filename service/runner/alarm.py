"""Two timers of the kernel's against a handler that holds the interpreter: no thread of Python can do anything then.

The nudge rings when the watchdog has not run for a moment. Much C code that may take long asks Python now and then
whether a signal has come (a regular expression does). Then the signal's handler runs, in the main thread, and lets the
other threads work: they relieve the lane, renew leases, and interrupt the attempt.

The alarm is the last resort, when a task is overdue. Its signal has no Python handler. It writes every thread's stack
into the runner's lock file and ends the process, even in the middle of a C call. The neighbour that takes over reads
the stacks there.

Handlers may use Python's own timers (signal.alarm, signal.setitimer) and their signals. So these are timers of POSIX,
of which a process may have many; the alarm's signal is the last real-time one. macOS has neither these timers nor the
signal: there, only a neighbour ends a runner that is held up.
"""

import ctypes
import faulthandler
import signal
import threading
import time
from typing import Any, Final

from service.runner.lockfile import NEVER

SIGNAL: Final = int(getattr(signal, "SIGRTMAX", 0))
NUDGE_SIGNAL: Final = signal.SIGUSR1
LEAST_SECONDS: Final = 0.001


class Alarm:
    def __init__(self) -> None:
        self._deadlines: dict[int, float] = {}
        self._lock = threading.Lock()
        self._timer: _Timer | None = None
        self._nudge: _Timer | None = None

    def arm(self, stacks: Any) -> None:
        """From now on the alarm's signal ends the process, and writes to this file."""
        if SIGNAL:
            faulthandler.register(SIGNAL, file=stacks, all_threads=True, chain=True)
            self._timer, self._nudge = _Timer(SIGNAL), _Timer(NUDGE_SIGNAL)

    def disarm(self) -> None:
        """For good."""
        with self._lock:
            for timer in (self._timer, self._nudge):
                if timer is not None:
                    timer.set(0.0)
            self._timer = self._nudge = None

    def set(self, lane: int, deadline: float) -> None:
        with self._lock:
            self._deadlines[lane] = deadline
            earliest = min(self._deadlines.values())
            if self._timer is not None:
                self._timer.set(0.0 if earliest == NEVER else max(LEAST_SECONDS, earliest - time.monotonic()))

    def nudge_after(self, seconds: float) -> None:
        """And again each time that so many seconds have passed, until this is called again."""
        with self._lock:
            if self._nudge is not None:
                self._nudge.set(seconds, again=seconds)


class _Signal(ctypes.Structure):
    """The struct sigevent of C: 64 bytes. Only the first ones matter for a signal."""

    _fields_ = (
        ("value", ctypes.c_void_p),
        ("number", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("rest", ctypes.c_char * 48),
    )


class _Times(ctypes.Structure):
    """The struct itimerspec of C: the period, and the time until the timer rings first."""

    _fields_ = tuple((name, ctypes.c_long) for name in ("every_s", "every_ns", "first_s", "first_ns"))


class _Timer:
    """timer_create(2). It is set twice for each task with a timeout, so its arguments are made once."""

    def __init__(self, signum: int) -> None:
        library = ctypes.PyDLL("librt.so.1")
        self._id = ctypes.c_void_p()
        event = _Signal(number=signum)  # to notify by a signal is 0
        if library.timer_create(time.CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(self._id)):
            raise OSError("the kernel gives this process no timer")
        self._times = _Times()
        self._given = ctypes.byref(self._times)
        self._set = library.timer_settime

    def set(self, seconds: float, again: float = 0.0) -> None:
        """Rings after so many seconds, then again and again after `again`; 0 means never."""
        times = self._times
        times.first_s, times.first_ns = int(seconds), int(seconds % 1 * 1e9)
        times.every_s, times.every_ns = int(again), int(again % 1 * 1e9)
        self._set(self._id, 0, self._given, None)
