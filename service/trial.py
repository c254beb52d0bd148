"""A process on trial: started beside the old one at a reload, it works only when it was accepted.

The supervisor makes a folder for each trial, and names it in SANDBOX_TRIAL. A process that could work leaves a
mark there and waits; a failure leaves another mark, and what it prints goes into a file in that folder. The
supervisor removes the folder when all are ready. Refused ones are killed while they wait: they have begun nothing.
Without the folder nobody is on trial: at the first start, and when a process is replaced later.

What this module imports is imported before a process can start gently: little.
"""

import fcntl
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, Final

VARIABLE: Final = "SANDBOX_TRIAL"
BEGUN: Final = "begun"
OUTPUT: Final = "output"
READY: Final = "ready"
FAILED: Final = "failed"
LOOK_SECONDS: Final = 0.02
TURN_SECONDS: Final = 2.0
WORK_SECONDS: Final = 0.001  # of the processor, until the kernel looks: mostly each 4 ms
REST_SECONDS: Final = 0.012
GENTLE: Final = 1 / 3  # of the time that a start may take
SLOW: Final = 2 / 3
AGAIN: Final = 1 / 10

_turn = -1
_sleep = time.sleep  # gevent replaces it in a worker: others would go on there


def folder() -> Path | None:
    named = Path(os.environ.get(VARIABLE) or os.devnull)
    return named if named.is_dir() else None


def take_turn(number: int) -> None:
    """Starting is work: half of the processors do it at most, and the others are for the processes that serve.

    Nobody waits for long: what is slow at starting may itself be waiting for something.
    """
    global _turn
    if (held := folder()) is None:
        return
    turns = max(1, (os.cpu_count() or 1) // 2)
    until = time.monotonic() + TURN_SECONDS
    with suppress(FileNotFoundError):
        _turn = os.open(held / f"turn-{number % turns}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        while not _is_free(_turn) and time.monotonic() < until:
            time.sleep(LOOK_SECONDS)


def _is_free(turn: int) -> bool:
    try:
        fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _end_turn() -> None:
    global _turn
    if _turn >= 0:
        os.close(_turn)
        _turn = -1


def begin() -> None:
    """This process, or this worker, starts from here on: gently, and if it takes long, it tells where it is."""
    if (held := folder()) is None:
        return
    try:
        began, patience = map(float, (held / BEGUN).read_text().split())
    except (OSError, ValueError):
        return  # a supervisor of an earlier release does not tell
    since = time.monotonic() - began
    _work_gently(patience * GENTLE - since)
    _tell_if_slow(held / OUTPUT, patience * SLOW - since, patience * AGAIN)


def _work_gently(seconds: float) -> None:
    """Short of processors, those that serve wait for whatever starts: so it rests most of the time, at first."""
    until = time.monotonic() + seconds

    def rest(_: int, __: FrameType | None) -> None:
        if time.monotonic() < until:
            _sleep(REST_SECONDS)
        else:
            signal.setitimer(signal.ITIMER_PROF, 0)

    signal.signal(signal.SIGPROF, rest)
    signal.siginterrupt(signal.SIGPROF, False)
    signal.setitimer(signal.ITIMER_PROF, WORK_SECONDS, WORK_SECONDS)


def _tell_if_slow(output: Path, first: float, again: float) -> None:
    """A process that hangs says where, before the patience with it is over, which began with the trial.

    More than once, for it may have got further since; the last that was said is shown.
    """
    greenlets = sys.modules.get("greenlet")
    this = greenlets.getcurrent() if greenlets else None

    def tell(_: int, frame: FrameType | None) -> None:
        """In a worker, a greenlet that waits has given way to another."""
        waiting: Any = getattr(this, "gr_frame", None) or frame
        with suppress(Exception), open(output, "a") as lines:
            lines.write("Not ready yet; it has come as far as this:\n" + "".join(traceback.format_stack(waiting)))

    signal.signal(signal.SIGALRM, tell)
    signal.setitimer(signal.ITIMER_REAL, max(first, LOOK_SECONDS), again)


def has_started() -> None:
    """A signal that is already on its way lets it rest once more, or tell."""
    if folder() is not None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def wait(of: int = 1, beat: Callable[[], bool] = lambda: True) -> None:
    """This process, one of so many, is ready: returns when it may begin, or has been told to stop."""
    has_started()
    if (held := folder()) is None:
        return
    _end_turn()
    (held / f"{READY}.{os.getpid()}.{of}").touch()
    while held.is_dir() and beat():
        time.sleep(LOOK_SECONDS)
    speak_up()
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)


def fail() -> None:
    if (held := folder()) is not None:
        with suppress(FileNotFoundError):  # the trial has just ended
            (held / f"{FAILED}.{os.getpid()}").touch()


def speak_up() -> None:
    """Warns where the supervisor does; the trial's command keeps that in place of standard input."""
    if VARIABLE in os.environ:
        from service import logs

        logs.lead_terminal(0)


def whisper() -> None:
    """Warns in the trial's folder."""
    if (held := folder()) is not None:
        from service import logs

        with suppress(FileNotFoundError):
            output = os.open(held / OUTPUT, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            logs.lead_terminal(output)
            os.close(output)
