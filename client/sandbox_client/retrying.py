"""What is sent again, when, and for how long.

A request that surely was not done is sent again: the connection could not be made, or the answer is a 429. One that was
perhaps done (the connection was lost, 502, 503, 504) is sent again only if it is repeatable: it reads, sets or removes
something, or carries an Idempotency-Key. What such a try has perhaps removed need not be found by the next one.

The pauses are full jitter: anything from nothing to a bound that doubles. Retry-After comes before that. Where a pause
leads beyond the time that is left, the fault is raised at once.
"""

import math
import random
from typing import Final

from sandbox_client.calls import Call
from sandbox_client.clock import Clock
from sandbox_client.errors import ProblemError, SandboxError, TooManyRequests, Unavailable, Unreachable

FIRST_BOUND_SECONDS: Final = 0.1
HIGHEST_BOUND_SECONDS: Final = 5.0


class Pauses:
    def __init__(self) -> None:
        self._bound = FIRST_BOUND_SECONDS

    def next(self) -> float:
        bound, self._bound = self._bound, min(2 * self._bound, HIGHEST_BOUND_SECONDS)
        return random.uniform(0, bound)

    def restart(self) -> None:
        self._bound = FIRST_BOUND_SECONDS


class Retries:
    """Of one call. Their time runs from the first fault: an answer may have been held back long before it."""

    def __init__(self, seconds: float, clock: Clock, *, end: float = math.inf) -> None:
        self.perhaps_done = False  # by a try before, whose answer was lost
        self._count = 0
        self._seconds = seconds
        self._clock = clock
        self._end = end
        self._pauses = Pauses()

    def pause_after(self, call: Call, fault: SandboxError) -> float:
        """How long to pause before the next try. Raises the fault if there is none."""
        now = self._clock.monotonic()
        if self._count == 0:
            self._end = min(self._end, now + self._seconds)
        pause = self._pauses.next()
        if isinstance(fault, ProblemError):
            pause += fault.retry_after
        if not may_be_sent_again(call, fault) or now + pause >= self._end:
            raise fault
        self._count += 1
        self.perhaps_done = self.perhaps_done or was_perhaps_done(fault)
        return pause


def may_be_sent_again(call: Call, fault: SandboxError) -> bool:
    if was_perhaps_done(fault):
        return call.repeatable
    return isinstance(fault, TooManyRequests | Unreachable)


def was_perhaps_done(fault: SandboxError) -> bool:
    return fault.sent if isinstance(fault, Unreachable) else isinstance(fault, Unavailable)
