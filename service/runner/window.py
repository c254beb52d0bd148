"""The time during which an attempt may be interrupted from another thread.

In the main thread an interruption is a signal, which also ends a blocking call; in any other thread it is an
asynchronous exception. Either may arrive late, when the attempt is over: a signal then does nothing, and an exception
that has not arrived yet is withdrawn when the window closes.

What must not be cut in two holds interruptions off for a moment: they come when it lets go.
"""

import ctypes
import signal
import threading
import time
from _thread import get_ident  # gevent.monkey in a module of task types replaces the one of `threading`
from typing import ClassVar, Final

from service.errors import Interrupted
from service.runner.lockfile import NEVER

MAIN_THREAD: Final = threading.main_thread().ident


class Window:
    """Made in the thread that runs the attempt; `with` opens it."""

    __slots__ = (
        "_arrived",
        "_is_due",
        "_is_held",
        "_is_open",
        "_lock",
        "groups",
        "interrupted_at",
        "is_over",
        "reason",
        "thread",
    )
    spare_seconds: ClassVar[float] = 0.0  # how much longer than others its handler may take to end

    def __init__(self) -> None:
        self.thread = get_ident()
        self.reason: type[Interrupted] | None = None
        self.interrupted_at = NEVER
        self.groups: set[int] = set()  # of the programs that run in it
        self.is_over = False  # nothing of it may begin any more
        self._is_open = False
        self._is_held = False
        self._is_due = False  # it has come while it was held off
        self._arrived = False
        self._lock = threading.RLock()  # a signal's handler may interrupt whoever holds it

    def __enter__(self) -> None:
        if not self._is_in_main_thread():
            _open[self.thread] = self
        self._is_open = True

    def close(self, *_: object) -> None:
        """May be repeated, where an interruption came in the middle of it."""
        self._is_open = False
        _open.pop(self.thread, None)
        with self._lock:
            if self.reason is not None and not self._is_in_main_thread():
                _raise_in(self.thread, None)

    __exit__ = close

    def _is_in_main_thread(self) -> bool:
        return self.thread == MAIN_THREAD

    def interrupt(self, reason: type[Interrupted]) -> None:
        """Called by other threads. Only the first interruption counts, and only while the window is open."""
        with self._lock:
            if not self._is_open or self.reason is not None:
                return
            self.reason = reason
            self.interrupted_at = time.monotonic()
            if self._is_held:
                self._is_due = True
                return
            if self.thread == get_ident():
                return  # threads are greenlets here, and the signal would hit the caller
            if self._is_in_main_thread():
                signal.pthread_kill(self.thread, signal.SIGUSR1)
            else:
                _raise_in(self.thread, reason)

    def arrive(self) -> None:
        """Called by the signal's handler, in the main thread. The signal may have been for an earlier attempt."""
        if self._is_open and self.reason is not None and not self._arrived:
            if self._is_held:
                self._is_due = True
                return
            self._arrived = True
            raise self.reason

    def hold_off(self) -> None:
        """Until `let_go`. An interruption that has come before is raised here. Other threads are never interrupted."""
        if self.thread == get_ident():
            with self._lock:
                self._is_held = True

    def let_go(self) -> None:
        """Raises what has come meanwhile."""
        if self.thread == get_ident():
            with self._lock:
                self._is_held = False
                is_due, self._is_due = self._is_due, False
            if is_due and not self._arrived:
                self._arrived = True
                assert self.reason is not None
                raise self.reason


_open: Final[dict[int, Window]] = {}  # by thread; none of the main thread's, whose signals meet nobody else


def open_in(thread: int) -> Window | None:
    return _open.get(thread)


def _raise_in(thread: int, reason: type[Interrupted] | None) -> None:
    """Raises an exception in a thread as soon as it runs Python code; None takes it back."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(reason) if reason else None)
