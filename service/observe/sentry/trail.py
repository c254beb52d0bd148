"""The last log lines of a thread (or greenlet) since its request or attempt began: they led to the error."""

import logging
from collections import deque
from contextvars import ContextVar
from typing import Any, Final, TypeAlias

from service.observe import scrubber
from service.observe.scrubber import Budget

LONGEST: Final = 50
MESSAGE_LIMIT: Final = 300

Crumbs: TypeAlias = deque[tuple[float, str, str, str]]


class Trail:
    def __init__(self) -> None:
        self._crumbs: ContextVar[Crumbs] = ContextVar("crumbs")

    def begin(self) -> Crumbs:
        crumbs: Crumbs = deque(maxlen=LONGEST)
        self._crumbs.set(crumbs)
        return crumbs

    @property
    def scope(self) -> Crumbs:
        """A new one for each request or attempt."""
        try:
            return self._crumbs.get()
        except LookupError:
            return self.begin()

    def add(self, record: logging.LogRecord) -> None:
        self.scope.append((record.created, record.levelname.lower(), record.name, message(record)))

    def crumbs(self) -> list[dict[str, Any]]:
        """The oldest first; where time is short, the oldest are left out."""
        budget = Budget(seconds=0.01)
        shown = []
        for created, level, name, message in reversed(self.scope):
            if budget.spent:
                break
            told = scrubber.text(message, MESSAGE_LIMIT)
            shown.append({"timestamp": created, "level": level, "category": name, "message": told, "type": "default"})
        return shown[::-1]


def message(record: logging.LogRecord) -> str:
    """The message as it is logged, made at once: its arguments may change, and should not be kept alive."""
    try:
        return scrubber.without_known(record.getMessage())[: 4 * MESSAGE_LIMIT]
    except Exception:
        return str(scrubber.plain(record.msg))[: 4 * MESSAGE_LIMIT]
