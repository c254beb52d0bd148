"""What many ask for at the same time is found out once: a process remembers it for a second.

While it is found out anew, whoever else asks gets what was known before, unless that is old: in an outage each look
takes long. When it fails, those who waited for it fail with it.
"""

import threading
import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

Value = TypeVar("Value")
SECONDS: Final = 1.0
OLD_SECONDS: Final = 10.0  # after it was fresh no more


class Remembered(Generic[Value]):
    def __init__(self, find: Callable[[], Value], seconds: float = SECONDS) -> None:
        self._find = find
        self._seconds = seconds
        self._lock = threading.Lock()
        self._known: tuple[float, Value] | None = None
        self._failed: tuple[float, Exception] | None = None

    def get(self) -> Value:
        known = self._known
        if known is not None and self._is_fresh(known, OLD_SECONDS if self._lock.locked() else 0.0):
            return known[1]
        asked_at = time.monotonic()
        with self._lock:
            if self._failed is not None and self._failed[0] > asked_at:
                raise self._failed[1]
            if self._known is None or not self._is_fresh(self._known):
                try:
                    self._known = (time.monotonic(), self._find())
                except Exception as error:
                    self._failed = (time.monotonic(), error)
                    raise
            return self._known[1]

    def _is_fresh(self, known: tuple[float, Value], more: float = 0.0) -> bool:
        return time.monotonic() - known[0] < self._seconds + more
