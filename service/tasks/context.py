"""What a handler gets as its first argument. Its runner reads `news` and `lines`, and sets `cancelled`."""

import itertools
import json
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias

import msgspec

from service.errors import InvalidTask
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


class Child(NamedTuple):
    """A task that a handler wants created. Plain values: they may go to another process."""

    type: str
    key: str | int  # what tells it from its siblings: the handler's word, or a number that the attempt counts
    args: bytes  # as JSON


class Create(Protocol):
    """What creates tasks for a handler, and returns their UIDs."""

    def __call__(self, context: "Context", children: Sequence[Child]) -> list[str]: ...


class _Logger(logging.LoggerAdapter[logging.Logger]):
    """Adds the facts to what a call has in its `extra`."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return msg, {**kwargs, "extra": {**(kwargs.get("extra") or {}), **(self.extra or {})}}


class Context:
    """What a handler may know and say while it runs."""

    __slots__ = (
        "_create",
        "_numbers",
        "_programs",
        "attempt",
        "cancelled",
        "created_by",
        "lines",
        "news",
        "pushed_back",
        "request_id",
        "secrets",
        "type",
        "uid",
    )

    def __init__(self, task: Task, programs: Programs | None = None, create: Create | None = None) -> None:
        self.uid = task.uid
        self.type = task.type
        self.attempt = task.attempt
        self.request_id = task.request_id
        self.created_by = task.created_by
        self.cancelled = False
        self.news: msgspec.Raw | None = None
        self.lines: Unstored | None = None
        self.pushed_back: tuple[str, float] | None = None  # a limit whose key is to rest for so many seconds
        self.secrets: tuple[str, ...] = ()  # texts that are to stand in no log
        self._programs = programs
        self._create = create
        self._numbers: itertools.count[int] | None = None

    def progress(self, fraction: float | None = None, message: str = "") -> None:
        """Says how far the task is: from 0 to 1, and in words. Clients see it in the document within half a second."""
        if fraction is not None:
            if not (math.isfinite(fraction) and 0 <= fraction <= 1):
                raise ValueError(f"progress is from 0 to 1, not {fraction!r}")
            fraction = float(fraction)  # of a Decimal, or a library's own kind, JSON would have a text, or nothing
        said = storable_text(self.without_secrets(str(message)))
        self.news = msgspec.Raw(_encode({"fraction": fraction, "message": said}))

    def log(self, text: str) -> None:
        """A line in the task's log, which clients see within half a second. It goes into no log file."""
        self.keep(INFO, str(text))

    def keep(self, level: str, text: str) -> None:
        lines = self.lines
        if lines is None:
            lines = Unstored(self.attempt)
            lines = self.lines = self.lines or lines  # another thread may have come first
        lines.add(level, self.without_secrets(text))

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

    def create(self, type: str, /, *, key: str | None = None, **args: Any) -> str:
        """Creates a task with these arguments, and returns its UID. Another attempt that comes to the same call creates
        nothing, and gets the same UID: it follows from this task and the key, or from which call without a key it is.
        """
        [uid] = self.create_many(type, [args], keys=None if key is None else [key])
        return uid

    def create_many(
        self, type: str, tasks: Iterable[Mapping[str, Any]], *, keys: Iterable[str] | None = None
    ) -> list[str]:
        """Does as `create` for each of these arguments. `keys` are as many."""
        texts = [_as_json(args) for args in tasks]
        if keys is None:
            numbers = self._numbers
            if numbers is None:
                numbers = itertools.count(1)
                numbers = self._numbers = self._numbers or numbers  # another thread may have come first
            children = [Child(type, next(numbers), text) for text in texts]
        else:
            children = [Child(type, key, text) for key, text in zip(_checked(keys), texts, strict=True)]
        return self.created(children) if children else []

    def created(self, children: Sequence[Child]) -> list[str]:
        if self._create is None:
            raise RuntimeError("only a runner, or service.testing, creates tasks")
        return self._create(self, children)

    @property
    def facts(self) -> dict[str, Any]:
        """They are in each log line of this attempt."""
        return {"uid": self.uid, "type": self.type, "attempt": self.attempt, "request_id": self.request_id}

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """Its lines are this attempt's in every thread."""
        return _Logger(log, {"fields": self.facts, "sandbox_context": self})


def _checked(keys: Iterable[str]) -> Iterator[str]:
    """A child whose key is another one's, or no text, would be lost without a word."""
    known: set[str] = set()
    for key in keys:
        if not isinstance(key, str):
            raise InvalidTask(f"key: {key!r:.100} is no text", field="key")
        if key in known:
            raise InvalidTask(f"key: two of these tasks have the key {key!r:.100}", field="key")
        known.add(key)
        yield key


def _as_json(args: Mapping[str, Any]) -> bytes:
    try:
        text = _encode(args)
        if b"null" in text:  # as msgspec writes NaN and Infinity
            json.dumps(msgspec.to_builtins(args), allow_nan=False)
        return text
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidTask(f"args: they are not JSON-able: {error}", field="args") from error
