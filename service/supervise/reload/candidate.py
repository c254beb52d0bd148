"""A process on trial: started beside the old one at a reload, it works only when it was accepted.

The supervisor makes a folder for each trial, and names it in SANDBOX_TRIAL. A process that could work leaves a
mark there and waits; a failure leaves another mark, and what it prints goes into a file in that folder. The
supervisor removes the folder when all are ready. Refused ones are killed while they wait: they have begun nothing.
Without the folder nobody is on trial: at the first start, and when a process is replaced later.
"""

import atexit
import faulthandler
import logging
import os
import signal
import sys
import time
import traceback
from _thread import allocate_lock, get_ident, start_new_thread
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import IO, Any, Final

VARIABLE: Final = "SANDBOX_TRIAL"
BEGUN: Final = "begun"
OUTPUT: Final = "output"
READY: Final = "ready"
FAILED: Final = "failed"
SERVED: Final = "served"  # in the folder of the sockets: a web worker of this start has come up
LOOK_SECONDS: Final = 0.02
REDIS_SECONDS: Final = 10.0  # for which the first web workers of a start wait for the embedded one
KILL_SECONDS: Final = 0.5
SLOW: Final = 2 / 3  # of the time that a start may take
AGAIN: Final = 1 / 10

SAYS_WHERE: Final = "Not ready yet; it has come as far as this:"
WHERE: Final = getattr(signal, "SIGRTMAX", 1) - 1  # nobody else uses it; macOS has none

_sleep = time.sleep  # gevent replaces it in a worker: other greenlets would go on
_named = os.environ.get(VARIABLE)  # now: what is imported later may change the environment
_watch = allocate_lock()  # held while a thread watches over the start
_answers: IO[str] | None = None


def folder() -> Path | None:
    named = Path(_named or os.devnull)
    return named if named.is_dir() else None


def begin() -> None:
    """If this start takes long, it says where it is. Call it again after a fork."""
    global _watch
    if (held := folder()) is None:
        return
    try:
        began, patience = map(float, (held / BEGUN).read_text().split())
    except (OSError, ValueError):
        return  # a supervisor of an earlier release does not tell
    atexit.register(_end, os.getpid())
    _watch = allocate_lock()
    _watch.acquire()
    start_new_thread(_say_where, (held / OUTPUT, _stack(), _watch, began, patience))
    _be_asked_where(held / OUTPUT)


def _say_where(output: Path, stack: Callable[[], list[str]], watch: Any, began: float, patience: float) -> None:
    """Says it before the patience is over, which began with the trial, and again when it may have got further.

    The last that was said is shown. A thread, because a signal would interrupt what is imported.
    """
    wait = began + patience * SLOW - time.monotonic()
    while not watch.acquire(timeout=max(wait, LOOK_SECONDS)):
        with suppress(Exception), open(output, "a") as lines:
            lines.write(f"{SAYS_WHERE}\n" + "".join(stack()))
        wait = patience * AGAIN


def _be_asked_where(output: Path) -> None:
    """A start that holds the interpreter, in C code, lets no thread say anything. The supervisor asks it by a signal;
    faulthandler answers, which needs no interpreter. The file stays open for it.
    """
    global _answers
    if WHERE and output.exists():
        _answers = open(output, "a")  # noqa: SIM115
        faulthandler.register(WHERE, _answers)


def _stack() -> Callable[[], list[str]]:
    """Where this thread is; in a web worker, this greenlet, which gives way to others while it waits."""
    thread = get_ident()
    greenlets = sys.modules.get("greenlet")
    greenlet = greenlets.getcurrent() if greenlets else None

    def stack() -> list[str]:
        frame: FrameType | None = getattr(greenlet, "gr_frame", None) or sys._current_frames()[thread]
        return traceback.format_stack(frame)

    return stack


def has_started() -> None:
    """Ends the watch over the start."""
    with suppress(RuntimeError):  # nobody watches
        _watch.release()
    if _answers is not None:
        faulthandler.unregister(WHERE)
        _answers.close()


def wait(of: int = 1, beat: Callable[[], bool] = lambda: True) -> None:
    """This process, one of so many, is ready: returns when it may begin, or has been told to stop."""
    has_started()
    if (held := folder()) is None:
        return
    (held / f"{READY}.{os.getpid()}.{of}").touch()
    while held.is_dir() and beat():
        time.sleep(LOOK_SECONDS)
    warn_on_terminal()
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
        _sleep(LOOK_SECONDS)


def _end(pid: int) -> None:
    """A process that ends while it is on trial has failed. Its children may end as they like."""
    if os.getpid() == pid:
        fail()


def warn_on_terminal() -> None:
    """From here on warnings go where the supervisor's go; the trial's command keeps that as standard input."""
    if _named is not None:
        from service.observe import output

        output.lead_terminal(0)


def warn_in_folder_too(logger: logging.Logger) -> None:
    """For gunicorn's arbiter, which tells how its workers have ended."""
    if folder() is not None:
        logger.addHandler(_InFolder(logging.WARNING))


class _InFolder(logging.Handler):
    """Without the folder the trial is over, and nobody reads it any more."""

    def emit(self, record: logging.LogRecord) -> None:
        if (held := folder()) is not None:
            with suppress(OSError), open(held / OUTPUT, "a") as lines:
                lines.write(f"{record.getMessage()}\n")


def warn_in_folder() -> None:
    """From here on warnings go into the trial's folder."""
    if (held := folder()) is not None:
        from service.observe import output

        with suppress(FileNotFoundError):
            descriptor = os.open(held / OUTPUT, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            output.lead_terminal(descriptor)
            os.close(descriptor)
