"""What a thread (or greenlet) has logged since its request or attempt began: the way to an error."""

import logging
import threading
from collections import deque
from typing import Any, Final

from service.sentry import scrubber
from service.sentry.scrubber import Budget

LONGEST: Final = 50
MESSAGE_LIMIT: Final = 300


class Trail(threading.local):
    def __init__(self) -> None:
        self.scope = object()
        self._crumbs: deque[tuple[float, str, str, str]] = deque(maxlen=LONGEST)

    def begin(self) -> None:
        self.scope = object()
        self._crumbs.clear()

    def add(self, record: logging.LogRecord) -> None:
        self._crumbs.append((record.created, record.levelname.lower(), record.name, message(record)))

    def crumbs(self) -> list[dict[str, Any]]:
        """In the order in which they came; where time is short, only the latest are told."""
        budget = Budget(seconds=0.01)
        shown = []
        for created, level, name, message in reversed(self._crumbs):
            if budget.spent:
                break
            told = scrubber.text(message, MESSAGE_LIMIT)
            shown.append({"timestamp": created, "level": level, "category": name, "message": told, "type": "default"})
        return shown[::-1]


def message(record: logging.LogRecord) -> str:
    """As it would be logged. Made at once: its arguments may change, and are not to be kept alive."""
    try:
        return record.getMessage()[: 4 * MESSAGE_LIMIT]
    except Exception:
        return str(record.msg)[: 4 * MESSAGE_LIMIT]
