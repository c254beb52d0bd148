"""What a process prints, and what people see of it on the terminal.

What is printed goes into a file of its own (`keep_output`): a pipe would tear it, and would hold up or end the
process when nobody reads any more. The terminal gets warnings and news, and only while it takes them.
"""

import logging
import os
import select
import signal
import stat
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final

from service.observe import scrubber
from service.observe.lockless import Lockless
from service.observe.log_file import LONGEST_TEXT, LogFile, caretaker

LONGEST_WRITE: Final = 4096  # a pipe with room takes that much without holding up the writer
_terminal = -1


def keep_terminal() -> None:
    """From now on, warnings and news go where standard error leads now, and never wait for a reader."""
    global _terminal
    if _terminal < 0:
        _terminal = never_waiting(2)


def lead_terminal(descriptor: int) -> None:
    """From now on, warnings and news go where this descriptor leads."""
    fresh = never_waiting(descriptor)
    os.dup2(fresh, _descriptor(), inheritable=_terminal < 0)
    os.close(fresh)


def say(text: str) -> None:
    """News for people, on the terminal if it takes them."""
    with suppress(OSError):
        if _takes_more(_descriptor()):
            os.write(_descriptor(), f"{text}\n".encode(errors="replace"))


def one_entry(text: str) -> str:
    """For people: no text of a client can look like an entry of its own, or speak to a terminal.

    Only the first line begins at the margin. What cannot be printed is escaped.
    """
    first, *below = text.expandtabs().splitlines() or [""]
    return "\n".join((printable(first), *(f"    {printable(line)}" for line in below)))


def printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def signal_name(number: int) -> str:
    """As in SIGKILL. Python has no names for most of the real-time signals."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def never_waiting(descriptor: int) -> int:
    """Opens the same terminal or pipe anew: O_NONBLOCK on the given one would hold for all who share it."""
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return os.dup(descriptor)  # a file never blocks; opened anew, it would be written from its beginning
        return os.open(f"/dev/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return os.dup(descriptor)


def _descriptor() -> int:
    return _terminal if _terminal >= 0 else sys.stderr.fileno()


class Dated(logging.Formatter):
    """Times as the log files have them, in UTC, but to the second."""

    default_time_format = "%Y-%m-%dT%H:%M:%SZ"
    default_msec_format = None

    @staticmethod
    def converter(seconds: float | None) -> time.struct_time:
        return time.gmtime(seconds)


class Terminal(Lockless):
    """Python's log records on the terminal. It never waits: a terminal or a pipe that takes no more gets no more."""

    def emit(self, record: logging.LogRecord) -> None:
        descriptor = _descriptor()
        try:
            text = (one_entry(scrubber.end(self.format(record), LONGEST_TEXT)) + "\n").encode(errors="replace")
            for begin in range(0, len(text), LONGEST_WRITE):
                if _takes_more(descriptor):
                    os.write(descriptor, text[begin : begin + LONGEST_WRITE])
        except Exception:
            self.handleError(record)


def _takes_more(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return any(event & (select.POLLOUT | select.POLLERR) == select.POLLOUT for _, event in poll.poll(0))


def keep_output(kind: str, folder: Path) -> None:
    """From here on, what this process and its children print goes into a file."""
    if _terminal >= 0:
        return
    folder.mkdir(parents=True, exist_ok=True)
    keep_terminal()
    output = LogFile(folder / f"{kind}.out", stands_for=(1, 2))
    output.look()
    _print_to(output.descriptor)
    sys.excepthook = _log_exception
    caretaker.take_on(output)


def _print_to(descriptor: int) -> None:
    """By a descriptor of its own: a handler that closes 1 and 2 must not make the prints of others fail."""
    for name in ("stdout", "stderr"):
        setattr(sys, name, open(descriptor, "w", buffering=1, errors="backslashreplace", closefd=False))  # noqa: SIM115


def _log_exception(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    logging.getLogger("sandbox").critical("this process ends: %s", error, exc_info=(kind, error, traceback))
