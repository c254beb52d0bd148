"""What an attempt says in its task's log, until it is stored: the newest lines, in a limited space.

The handler's threads add; one thread at a time takes. There is no lock, because an interruption may come anywhere in a
handler, and would leave it locked: adding is one append to a deque, and numbers are changed without a call in between,
where another thread could have its turn. What was taken stays here until it is known to be stored, and is given again
as it was: so the store recognises what it has got already.
"""

import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple

import msgspec

MOST_LINES: Final = 1000
MOST_BYTES: Final = 256 * 1024
LINE_LIMIT: Final = 8 * 1024
MARGIN: Final = 4 * 1024  # beyond the limit: half a secret would not be recognised
CUT: Final = "…"
INFO: Final = "info"

_encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(tuple[int, str, int, str]).decode  # microseconds, level, attempt, text


class Portion(NamedTuple):
    """Lines as they are stored, and how many before them were left out."""

    lines: list[bytes]
    skipped: int


class Unstored:
    __slots__ = ("_at", "_attempt", "_characters", "_left_out", "_said", "_taken", "_told")

    def __init__(self, attempt: int) -> None:
        self._attempt = attempt
        self._said: deque[tuple[int, str, str]] = deque()
        self._characters = 0
        self._at = 0
        self._left_out = 0  # to make room
        self._told = 0  # of these, those that stand in a portion
        self._taken: Portion | None = None

    def add(self, level: str, text: str) -> None:
        text = text[: LINE_LIMIT + MARGIN]
        size = len(text)
        self._said.append((time.time_ns() // 1000, level, text))
        self._characters += size
        if self._characters > MOST_BYTES or len(self._said) > MOST_LINES:
            self._make_room()

    def _make_room(self) -> None:
        """Roughly: several threads may count at once. Whoever takes starts the count anew."""
        with suppress(IndexError):
            while len(self._said) > MOST_LINES or (self._characters > MOST_BYTES and len(self._said) > 1):
                size = len(self._said.popleft()[2])
                self._left_out += 1
                self._characters -= size

    def take(self, clean: Callable[[str], str]) -> Portion | None:
        """What is to be stored next, if anything is: the portion before, until it is `done`. `clean` is called for each
        line that has not been left out.
        """
        if self._taken is None and self._said:
            self._taken = self._drained(clean)
        return self._taken

    def done(self, portion: Portion) -> None:
        if self._taken is portion:
            self._taken = None

    def _drained(self, clean: Callable[[str], str]) -> Portion:
        said: list[tuple[int, str, str]] = []
        with suppress(IndexError):
            while len(said) < MOST_LINES:
                at, level, text = self._said.popleft()
                self._at = at = max(self._at + 1, at)
                said.append((at, level, text))
        self._characters = 0
        room, lines = MOST_BYTES, deque[bytes]()
        for at, level, text in reversed(said):
            line = _encode((at, level, self._attempt, _storable(clean(text))))
            room -= len(line)
            if room < 0 and lines:
                break
            lines.appendleft(line)
        before, self._told = self._told, self._left_out
        return Portion(list(lines), self._told - before + len(said) - len(lines))


def _storable(text: str) -> str:
    if len(text) > LINE_LIMIT:
        text = text[:LINE_LIMIT] + CUT
    return text.encode("utf-8", "replace").decode()
