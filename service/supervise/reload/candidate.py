"""A process on trial: started beside the old one at a reload, it works only when it was accepted.

The supervisor makes a folder for each trial, and names it in SANDBOX_TRIAL. A process that could work leaves a
mark there and waits; a failure leaves another mark, and what it prints goes into a file in that folder. The
supervisor removes the folder when all are ready. Refused ones are killed while they wait: they have begun nothing.
Without the folder nobody is on trial: at the first start, and when a process is replaced later.
"""

import atexit
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

from service.supervise.reload import gentle

VARIABLE: Final = "SANDBOX_TRIAL"
BEGUN: Final = "begun"
OUTPUT: Final = "output"
READY: Final = "ready"
FAILED: Final = "failed"
LOOK_SECONDS: Final = 0.02
KILL_SECONDS: Final = 0.5
GENTLE: Final = 1 / 2  # of the time that a start may take
SLOW: Final = 2 / 3
AGAIN: Final = 1 / 10


def folder() -> Path | None:
    named = Path(os.environ.get(VARIABLE) or os.devnull)
    return named if named.is_dir() else None


def begin(of: int = 1) -> None:
    """This process, one of so many, starts from here on: gently, until a good part of its time is over.

    If it takes long, it tells where it is.
    """
    if (held := folder()) is None:
        return
    try:
        began, patience = map(float, (held / BEGUN).read_text().split())
    except (OSError, ValueError):
        return  # a supervisor of an earlier release does not tell
    tell = _teller(held / OUTPUT)

    def is_over() -> bool:
        since = time.monotonic() - began
        if since < patience * GENTLE:
            return False
        gentle.at_alarm(tell)
        signal.setitimer(signal.ITIMER_REAL, max(patience * SLOW - since, LOOK_SECONDS), patience * AGAIN)
        return True

    atexit.register(_end, os.getpid())
    gentle.begin(is_over, of)


def _teller(output: Path) -> Callable[[int, FrameType | None], None]:
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

    return tell


def has_started() -> None:
    if VARIABLE in os.environ:
        gentle.hurry()


def wait(of: int = 1, beat: Callable[[], bool] = lambda: True) -> None:
    """This process, one of so many, is ready: returns when it may begin, or has been told to stop."""
    has_started()
    if (held := folder()) is None:
        return
    (held / f"{READY}.{os.getpid()}.{of}").touch()
    while held.is_dir() and beat():
        time.sleep(LOOK_SECONDS)
    speak_up()
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)


def fail() -> None:
    """Tells it once, and waits for a moment: the supervisor kills all of the trial now, this process too.

    To take itself apart would be work for nothing.
    """
    has_started()
    if (held := folder()) is None:
        return
    try:
        (held / f"{FAILED}.{os.getpid()}").touch(exist_ok=False)
    except OSError:
        return  # it has been told, or the trial has just ended
    until = time.monotonic() + KILL_SECONDS
    while held.is_dir() and time.monotonic() < until:
        gentle.sleep(LOOK_SECONDS)


def _end(pid: int) -> None:
    """A process that ends while it is on trial has failed. Its children may end as they like."""
    if os.getpid() == pid:
        fail()


def speak_up() -> None:
    """Warns where the supervisor does; the trial's command keeps that in place of standard input."""
    if VARIABLE in os.environ:
        from service.observe import output

        output.lead_terminal(0)


def whisper() -> None:
    """Warns in the trial's folder."""
    if (held := folder()) is not None:
        from service.observe import output

        with suppress(FileNotFoundError):
            descriptor = os.open(held / OUTPUT, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            output.lead_terminal(descriptor)
            os.close(descriptor)
