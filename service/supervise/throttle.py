"""How long to wait before a watcher's next process is started.

A few early deaths mean little: a process that was killed, or that met a bad moment, is replaced at once. When they go
on in a row, the pause before the next start doubles with each.
"""

from typing import Final

OLD_SECONDS: Final = 5.0
LONGEST_SECONDS: Final = 60.0
DOUBLINGS: Final = 6


class Throttle:
    """`allowed` early deaths in a row go without a pause. Times are monotonic."""

    def __init__(self, allowed: int) -> None:
        self.allowed = allowed
        self.crashes = 0
        self._until = 0.0

    def died(self, age_seconds: float, now: float) -> None:
        self.crashes = 0 if age_seconds >= OLD_SECONDS else self.crashes + 1
        self._until = now + self.pause

    @property
    def pause(self) -> float:
        excess = self.crashes - self.allowed
        return min(2.0 ** min(excess, DOUBLINGS), LONGEST_SECONDS) if excess >= 0 else 0.0

    def holds(self, now: float) -> bool:
        return now < self._until

    def grew_old(self) -> None:
        self.crashes = 0
        self._until = 0.0
