"""The time in which an attempt may be interrupted that has a process of its own: its runner's hold on it."""

import time
from typing import ClassVar, Final

from service.errors import Interrupted
from service.runner.window import Window
from service.runner.zygote import Fork

KILL_SECONDS: Final = 3.0  # the kernel may hold a process for a while


class Leash(Window):
    """Its lane is never stuck, and looks after itself."""

    __slots__ = ("_child",)
    spare_seconds: ClassVar[float] = 2 * KILL_SECONDS

    def __init__(self) -> None:
        super().__init__()
        self._child: Fork | None = None

    def holds(self, child: Fork) -> None:
        self._child = child

    def close(self, *_: object) -> None:
        self._is_open = False

    __exit__ = close

    def interrupt(self, reason: type[Interrupted]) -> None:
        with self._lock:
            if self._is_open and self.reason is None and self._child is not None:
                self.reason = reason
                self.interrupted_at = time.monotonic()
                self._child.interrupt(reason)

    def arrive(self) -> None:
        """A signal to the main thread is for other attempts."""
