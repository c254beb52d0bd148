"""A line for each host and phase, with its seconds, as soon as it is over; and who does all this."""

import getpass
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final, TextIO

EVERYWHERE: Final = "-"  # in the place of a host: what happens on this machine
_printing = threading.Lock()


def line(host: str, phase: str, text: str, seconds: float | None = None) -> None:
    took = "" if seconds is None else f"{seconds:.1f} s"
    _print(f"{host:<24} {phase:<8} {took:>8}  {text}".rstrip(), sys.stdout)


def warning(text: str) -> None:
    _print(text, sys.stderr)


def _print(text: str, output: TextIO) -> None:
    """Whether anybody still reads decides nothing: neither what is done on the hosts nor the exit code."""
    with _printing:
        try:
            print(text, file=output, flush=True)
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), output.fileno())  # for what is left to be printed, too


@contextmanager
def phase(host: str, name: str) -> Iterator[list[str]]:
    """Prints the line of a phase at its end; what is added to the list stands in it."""
    began = time.monotonic()
    remarks: list[str] = []
    try:
        yield remarks
    except BaseException:
        line(host, name, "FAILED", time.monotonic() - began)
        raise
    line(host, name, ", ".join(remarks) or "ok", time.monotonic() - began)


def who(purpose: str) -> dict[str, Any]:
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return {"by": operator(), "since": at, "for": purpose}


def operator() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may have a user without a name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
