"""The rounds of a wait: in each the service holds its answer back, until the task has finished or the round is over.

The service may answer at once, because too many wait or because it stops; then the next round begins after a pause.
"""

import math
from typing import Final

from sandbox_client.clock import Clock
from sandbox_client.retrying import Pauses

ROUND_SECONDS: Final = 30  # shorter than the patience of most proxies


class Rounds:
    def __init__(self, timeout: float | None, clock: Clock) -> None:
        self._clock = clock
        self.end = math.inf if timeout is None else clock.monotonic() + timeout
        self._pauses = Pauses()
        self._asked = 0
        self._began = 0.0

    @property
    def seconds_left(self) -> float:
        return max(0.0, self.end - self._clock.monotonic())

    def begin(self) -> int:
        """How many seconds to ask for; 0 if there is only time to look."""
        self._began = self._clock.monotonic()
        self._asked = math.ceil(min(ROUND_SECONDS, self.seconds_left))
        return self._asked

    def pause(self) -> float:
        """After a round in which the task did not finish."""
        if self._clock.monotonic() - self._began >= 0.9 * self._asked:
            self._pauses.restart()
            return 0.0
        return min(self._pauses.next(), self.seconds_left)
