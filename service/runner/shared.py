"""Memory that the process of an attempt shares with its zygote. It outlives a crash, and works where signals may be
lost: why the attempt is to end, and which process groups its programs have.
"""

import mmap
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from service.errors import Cancelled, Interrupted, Stopping, TimedOut

REASONS: Final[tuple[type[Interrupted], ...]] = (Cancelled, TimedOut, Stopping)
MOST_GROUPS: Final = 255  # of programs that run at once


class Shared:
    """Numbers: the place of the reason, from 1; then the groups."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 4 * (1 + MOST_GROUPS))
        self._numbers = memoryview(self._memory).cast("i")
        self._lock = threading.Lock()

    @property
    def reason(self) -> type[Interrupted] | None:
        place = self._numbers[0]
        return REASONS[place - 1] if place else None

    def interrupt(self, place: int) -> None:
        self._numbers[0] = place

    def close(self) -> None:
        self._numbers.release()
        self._memory.close()

    # --- groups, as a set ----------------------------------------------------------------------------

    def __iter__(self) -> Iterator[int]:
        return iter([group for group in self._numbers[1:] if group])

    def add(self, group: int) -> None:
        self._put(0, group)

    def discard(self, group: int) -> None:
        self._put(group, 0)

    def _put(self, old: int, new: int) -> None:
        """Without a free place the group goes untold: it ends with its runner."""
        with self._lock, suppress(ValueError):
            self._numbers[1 + self._numbers[1:].tolist().index(old)] = new
