"""What a handler gets as its first argument. Its runner reads `news` and `lines`, and sets `cancelled`."""

import logging
import math
from collections.abc import MutableMapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

import msgspec

from service.tasks.document import Task, storable_text
from service.tasks.lines import INFO, Unstored

if TYPE_CHECKING:
    from subprocess import CompletedProcess

Word: TypeAlias = "str | PathLike[str]"

REMOVED: Final = "[removed]"  # as in the log files

log = logging.getLogger("sandbox.task")
_encode = msgspec.json.Encoder().encode


class Programs(Protocol):
    """What runs a program for a handler; the process around the handler has it."""

    def __call__(self, context: "Context", command: Sequence[Word], **options: Any) -> "CompletedProcess[str]": ...


class _Logger(logging.LoggerAdapter[logging.Logger]):
    """Adds the facts to what a call has in its `extra`."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return msg, {**kwargs, "extra": {**(kwargs.get("extra") or {}), **(self.extra or {})}}


class Context:
    """What a handler may know and say while it runs."""

    __slots__ = ("_programs", "attempt", "cancelled", "lines", "news", "request_id", "secrets", "type", "uid")

    def __init__(self, task: Task, programs: Programs | None = None) -> None:
        self.uid = task.uid
        self.type = task.type
        self.attempt = task.attempt
        self.request_id = task.request_id
        self.cancelled = False
        self.news: msgspec.Raw | None = None
        self.lines: Unstored | None = None
        self.secrets: tuple[str, ...] = ()  # texts that are to stand in no log
        self._programs = programs

    def progress(self, fraction: float | None = None, message: str = "") -> None:
        """Says how far the task is: from 0 to 1, and in words. Clients see it in the document within half a second."""
        if fraction is not None and not (math.isfinite(fraction) and 0 <= fraction <= 1):
            raise ValueError(f"progress is from 0 to 1, not {fraction!r}")
        self.news = msgspec.Raw(_encode({"fraction": fraction, "message": storable_text(str(message))}))

    def log(self, text: str) -> None:
        """A line in the task's log, which clients see within half a second. It goes into no log file."""
        self.keep(INFO, str(text))

    def keep(self, level: str, text: str) -> None:
        if self.lines is None:
            self.lines = Unstored(self.attempt)
        self.lines.add(level, self.without_secrets(text))

    def without_secrets(self, text: str) -> str:
        for each in self.secrets:
            text = text.replace(each, REMOVED)
        return text

    def run(
        self, command: Sequence[Word], *, check: bool = False, timeout: float | None = None, **options: Any
    ) -> "CompletedProcess[str]":
        """Runs a program as `subprocess.run` does. What it prints goes into the task's log, line by line; its end is in
        the answer's `stdout`. When the attempt is interrupted, the program ends, with all that it has started.
        """
        if self._programs is None:
            raise RuntimeError("only a runner, or service.testing, runs programs")
        return self._programs(self, command, check=check, timeout=timeout, **options)

    @property
    def facts(self) -> dict[str, Any]:
        """They are in each log line of this attempt."""
        return {"uid": self.uid, "type": self.type, "attempt": self.attempt, "request_id": self.request_id}

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """Its lines are this attempt's in every thread."""
        return _Logger(log, {"fields": self.facts, "sandbox_context": self})
