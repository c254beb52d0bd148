"""When it is looked at what a workspace has of the disk. A look takes the longer the more files there are: so one comes
when as much of the whole disk is gone as half of what the workspace may still have; and now and then all the same,
since others may free meanwhile what this one takes.
"""

import time
from collections.abc import Callable
from typing import Final

LOOK_SECONDS: Final = 2.0
PAUSES: Final = 20  # as long as a look takes
SELDOM: Final = 5  # times as long, while nothing has grown

Amounts = tuple[int, int]  # MB, and files and folders


class Share:
    def __init__(self, look: Callable[[], tuple[str, Amounts]], free: Callable[[], Amounts]) -> None:
        """`look` tells what it has more of than its share, in words, and what it may still have; `free` is cheap, and
        tells what the disk has left.
        """
        self._look = look
        self._free = free
        self._earliest = self._latest = 0.0
        self._seen: Amounts = (0, 0)
        self._room: Amounts = (0, 0)

    def used_up(self) -> str:
        now = time.monotonic()
        if now < self._earliest or (now < self._latest and not self._may_have_grown()):
            return ""
        self._seen = self._free()
        used_up, self._room = self._look()
        after = time.monotonic()
        pause = max(LOOK_SECONDS, PAUSES * (after - now))
        self._earliest, self._latest = after + pause, after + SELDOM * pause
        return used_up

    def _may_have_grown(self) -> bool:
        """Always, where the disk does not count its files."""
        amounts = zip(self._seen, self._free(), self._room, strict=True)
        return any(not after or before - after >= room / 2 for before, after, room in amounts)
