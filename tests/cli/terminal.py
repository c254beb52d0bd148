"""A program in a terminal of its own, as a person sees it."""

import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping
from fcntl import ioctl
from types import TracebackType

CHUNK = 65_536


class Terminal:
    def __init__(self, *words: str, environment: Mapping[str, str], columns: int = 120, rows: int = 40) -> None:
        self._mine, theirs = pty.openpty()
        self.resize(columns, rows)
        self._before = termios.tcgetattr(self._mine)
        clean = {name: text for name, text in environment.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
        self.process = subprocess.Popen(
            words,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={"TERM": "xterm", **clean} if "NO_COLOR" not in environment else {"TERM": "xterm", **environment},
            start_new_session=True,
            preexec_fn=lambda: ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C and Ctrl-Z reach it
        )
        os.close(theirs)
        self.shown = ""

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self._mine)

    def types(self, text: str) -> None:
        os.write(self._mine, text.encode())

    def resize(self, columns: int, rows: int) -> None:
        ioctl(self._mine, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def is_as_before(self) -> bool:
        """What is typed is shown and handed over line by line, as when it was opened."""
        return termios.tcgetattr(self._mine) == self._before

    def interrupt(self) -> None:
        os.killpg(self.process.pid, signal.SIGINT)

    def shows(self, text: str, seconds: float = 30) -> bool:
        """Reads on until the text has been there."""
        until = time.monotonic() + seconds
        while text not in self.shown and time.monotonic() < until and self._read():
            pass
        return text in self.shown

    def ends(self, seconds: float = 30) -> int:
        until = time.monotonic() + seconds
        while time.monotonic() < until and self._read():
            pass
        return self.process.wait(max(1.0, until - time.monotonic()))

    def _read(self) -> bool:
        """False when nobody can write any more."""
        ready, _, _ = select.select([self._mine], [], [], 0.1)
        if not ready:
            return self.process.poll() is None
        try:
            read = os.read(self._mine, CHUNK)
        except OSError:
            return False
        self.shown += read.decode(errors="replace")
        return bool(read)
