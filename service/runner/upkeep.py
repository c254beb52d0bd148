"""What a runner does beside its lanes, again and again, in a thread of its own.

Each duty stands in the module that it belongs to, which registers it here by `every`. A duty that fails is logged,
and done again when it is next due; it does not keep the others from theirs.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from service.errors import StoreUnavailable

TICK_SECONDS: Final = 0.05

log = logging.getLogger("sandbox.runner")


class Keeper(Protocol):
    """An object that registers its duties."""

    def register(self, upkeep: "Upkeep") -> None: ...


class _Duty:
    def __init__(self, every_seconds: float, do: Callable[[], bool | None]) -> None:
        self._every = every_seconds
        self._do = do
        self._next = 0.0

    def do_if_due(self, now: float) -> None:
        if now >= self._next:
            self._next = now + self._every
            if self._do():
                self._next = now


class Upkeep:
    def __init__(self, lost_contact: Callable[[], None], *, name: str = "upkeep") -> None:
        """`lost_contact` is called when Redis does not answer. `name` is the thread's."""
        self._lost_contact = lost_contact
        self._duties: list[_Duty] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def every(self, seconds: float, do: Callable[[], bool | None]) -> None:
        """With 0 seconds at each tick. If `do` returns True there is more to do, and its next turn is the next tick."""
        self._duties.append(_Duty(seconds, do))

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        self._thread.join(timeout=3)

    def _work(self) -> None:
        while not self._over.wait(TICK_SECONDS):
            for duty in self._duties:
                try:
                    duty.do_if_due(time.monotonic())
                except StoreUnavailable as error:
                    self._lost_contact()
                    log.warning("%s; trying again", error, extra={"once": "store"})
                except Exception as error:
                    log.error("upkeep failed", exc_info=error, extra={"once": "upkeep"})
