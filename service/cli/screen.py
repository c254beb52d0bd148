"""The whole terminal, for as long as a command shows something live; then it is as it was before.

A frame is written over the one before, so what has not changed does not flicker. The first key `q`, a Ctrl-C or a
signal ends it; Ctrl-Z gives the terminal back meanwhile; a change of its size is drawn at once.
"""

import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any, Final, NoReturn

from service.cli import showing

QUIT: Final = b"qQ"
KEYS: Final = 1024
ENTER: Final = "\x1b[?1049h\x1b[?25l\x1b[2J"  # a screen of its own, without a cursor
LEAVE: Final = "\x1b[?25h\x1b[?1049l"
HOME: Final = "\x1b[H"
EMPTY_LINE: Final = "\x1b[K"
BELOW: Final = "\x1b[J"


class Screen:
    def __init__(self) -> None:
        self._keyboard = sys.stdin.fileno() if sys.stdin.isatty() else None
        self._before: Any = None
        self._handlers: dict[int, Any] = {}
        self._woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def __enter__(self) -> "Screen":
        self._handlers = {
            signal.SIGWINCH: signal.signal(signal.SIGWINCH, lambda *_: None),
            signal.SIGTSTP: signal.signal(signal.SIGTSTP, self._pause),
            signal.SIGTERM: signal.signal(signal.SIGTERM, _end),
            signal.SIGHUP: signal.signal(signal.SIGHUP, _end),
        }
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        self._take()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._give_back()
        signal.set_wakeup_fd(-1)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._woken)
        os.close(self._wake)

    def show(self, lines: Sequence[str]) -> None:
        """As many as there is room for."""
        rows = showing.rows()
        if len(lines) > rows:
            lines = [*lines[: rows - 1], f"… and {len(lines) - rows + 1} lines more"]
        text = "\n".join(EMPTY_LINE + line for line in lines)  # after a line that fills its row it would take a letter
        _write(HOME + text + ("\n" + BELOW if len(lines) < rows else ""))

    def wait(self, seconds: float) -> bool:
        """False if somebody wants it to end. True after so long, or when the size has changed."""
        until = time.monotonic() + seconds
        watched = [self._woken] if self._keyboard is None else [self._woken, self._keyboard]
        while (left := until - time.monotonic()) > 0:
            ready, _, _ = select.select(watched, [], [], left)
            if self._keyboard in ready:
                typed = os.read(self._keyboard or 0, KEYS)
                if not typed or set(typed) & set(QUIT):
                    return False
            if self._woken in ready:
                os.read(self._woken, KEYS)
                return True
        return True

    def _take(self) -> None:
        if self._keyboard is not None:
            self._before = termios.tcgetattr(self._keyboard)
            tty.setcbreak(self._keyboard)
        _write(ENTER)

    def _give_back(self) -> None:
        _write(LEAVE)
        if self._before is not None:
            termios.tcsetattr(self._keyboard or 0, termios.TCSADRAIN, self._before)

    def _pause(self, *_: object) -> None:
        """Ctrl-Z: until somebody brings it back with `fg`."""
        self._give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._take()


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
