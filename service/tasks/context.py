"""What a handler gets as its first argument. Its runner reads `news`, and sets `cancelled`."""

import logging
import math
from collections.abc import MutableMapping
from typing import Any

import msgspec

from service.tasks.document import Task, storable_text

log = logging.getLogger("sandbox.task")
_encode = msgspec.json.Encoder().encode


class _Logger(logging.LoggerAdapter[logging.Logger]):
    """Adds the facts to what a call has in its `extra`."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return msg, {**kwargs, "extra": {**(kwargs.get("extra") or {}), **(self.extra or {})}}


class Context:
    """What a handler may know and say while it runs."""

    __slots__ = ("attempt", "cancelled", "news", "request_id", "type", "uid")

    def __init__(self, task: Task) -> None:
        self.uid = task.uid
        self.type = task.type
        self.attempt = task.attempt
        self.request_id = task.request_id
        self.cancelled = False
        self.news: msgspec.Raw | None = None

    def progress(self, fraction: float | None = None, message: str = "") -> None:
        """Says how far the task is: from 0 to 1, and in words. Clients see it in the document within half a second."""
        if fraction is not None and not (math.isfinite(fraction) and 0 <= fraction <= 1):
            raise ValueError(f"progress is from 0 to 1, not {fraction!r}")
        self.news = msgspec.Raw(_encode({"fraction": fraction, "message": storable_text(str(message))}))

    @property
    def facts(self) -> dict[str, Any]:
        """They are in each log line of this attempt."""
        return {"uid": self.uid, "type": self.type, "attempt": self.attempt, "request_id": self.request_id}

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        return _Logger(log, {"fields": self.facts})
