"""A task's document with typed fields. `document` is what the service sent, with all that a newer one may add."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, NamedTuple, NotRequired, TypedDict, TypeVar

STATUSES: Final = ("scheduled", "queued", "running", "succeeded", "failed", "cancelled")
FINISHED: Final = frozenset(STATUSES[3:])
UNREADABLE: Final = "unreadable"  # what is stored is no task document

Value = TypeVar("Value")


class Progress(NamedTuple):
    fraction: float | None
    message: str


class TaskError(NamedTuple):
    type: str
    message: str
    event_id: str | None  # finds it in Sentry


class LogLine(NamedTuple):
    """A line of a task's log."""

    id: str
    at: datetime
    level: str
    text: str
    attempt: int


def log_line(given: Mapping[str, Any]) -> LogLine:
    at = datetime.fromisoformat(given["at"])
    return LogLine(given["id"], at, given["level"], given["text"], given["attempt"])


class Attempt(NamedTuple):
    """One attempt of a task; `outcome` is None while it runs."""

    attempt: int
    runner: str | None
    started_at: datetime | None
    finished_at: datetime | None
    duration: float | None
    outcome: str | None
    error: TaskError | None


def attempt(given: Mapping[str, Any]) -> Attempt:
    error = given["error"]
    return Attempt(
        given["attempt"],
        given["runner"],
        _moment(given["started_at"]),
        _moment(given["finished_at"]),
        given["duration"],
        given["outcome"],
        error and TaskError(error["type"], error["message"], error["event_id"]),
    )


def _moment(given: str | None) -> datetime | None:
    return datetime.fromisoformat(given) if given else None


class UniqueKey(NamedTuple):
    """What no other unfinished task of the same type has."""

    key: str
    until: str
    on_conflict: str


class TaskType(TypedDict):
    """A line of GET /types."""

    type: str
    description: str
    queue: str
    max_attempts: int
    timeout: float | None
    priority: str
    args: dict[str, Any]  # a JSON schema
    paused: dict[str, Any] | None
    unique: NotRequired[dict[str, Any] | None]
    secret: NotRequired[list[str]]  # arguments that only who may write sees
    limits: NotRequired[list[str]]


class Queue(TypedDict):
    """A line of GET /queues."""

    queue: str
    waiting: int
    running: int
    scheduled: int
    oldest: float | None  # seconds
    paused: dict[str, Any] | None


class Bounds(TypedDict, total=False):
    """How much of one key."""

    concurrency: int  # so many run at once
    rate: str  # so many start in a time, as in 100/minute
    burst: int  # so many of those at once after a quiet time


class Limit(TypedDict):
    """A line of GET /limits: docs/limits.md says what it means."""

    limit: str
    set: bool  # false: types name it, or tasks still wait at it, and nobody has set it
    key: str | None
    concurrency: int | None
    rate: str | None
    burst: int | None
    overrides: dict[str, Bounds]  # by the key's value
    waiting: int
    keys: int  # of so many keys
    types: list[str]


class StuckType(TypedDict):
    """A type that no runner knows, and whose tasks wait."""

    type: str
    queue: str
    tasks: int  # that wait
    since: str


class AtWork(TypedDict):
    uid: str
    type: str
    queue: str
    since: str


class RunnerAtWork(TypedDict):
    """A line of GET /runners."""

    runner: str
    host: str
    pid: int
    release: str | None
    started_at: str
    memory: int  # bytes
    queues: list[str]
    threads: int
    executing: list[AtWork]


class Matched(NamedTuple):
    """How many tasks an act on many would look at: at least so many if there are `more`."""

    number: int
    more: bool


class Schedule(TypedDict):
    """What creates tasks at times: docs/schedules.md has the fields. Moments are texts, as the service sends them."""

    name: str
    type: str
    args: dict[str, Any]
    queue: str | None
    cron: str | None
    every: float | None
    timezone: str
    overlap: str
    catch_up: float
    jitter: float
    paused: bool
    words: str
    next: list[str]
    waiting: str | None
    last: dict[str, str] | None
    fired: int
    skipped: int
    missed: int
    source: str
    orphan: bool
    created_at: str
    changed_at: str
    changed_by: str | None


@dataclass(frozen=True)
class Readiness:
    """True if the service is ready. `failing` names parts and what is wrong with each; of a ready one, too."""

    ready: bool
    failing: Mapping[str, str]

    def __bool__(self) -> bool:
        return self.ready


class Field(Generic[Value]):
    """A member of the document. What is not null is read by `reader`, if there is one."""

    def __init__(self, reader: Callable[[Any], Any] | None = None) -> None:
        self._reader = reader
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, instance: "Document", owner: type | None = None) -> Value:
        value = instance.document[self._name]
        if value is not None and self._reader is not None:
            value = self._reader(value)
        return value  # type: ignore[no-any-return]


class Document:
    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document

    uid = Field[str]()
    type = Field[str]()
    queue = Field[str]()
    status = Field[str]()
    args = Field[dict[str, Any]]()
    created_at = Field[datetime](datetime.fromisoformat)
    started_at = Field[datetime | None](datetime.fromisoformat)
    finished_at = Field[datetime | None](datetime.fromisoformat)
    duration = Field[float | None]()
    attempt = Field[int]()
    max_attempts = Field[int]()
    failures = Field[int]()
    crashes = Field[int]()
    timeout = Field[float | None]()
    run_at = Field[datetime | None](datetime.fromisoformat)
    progress = Field[Progress | None](lambda given: Progress(given["fraction"], given["message"]))
    result = Field[Any]()
    error = Field[TaskError | None](lambda given: TaskError(given["type"], given["message"], given["event_id"]))
    request_id = Field[str | None]()
    created_by = Field[str | None]()
    priority = Field[str]()
    schedule = Field[str | None]()
    scheduled_for = Field[datetime | None](datetime.fromisoformat)
    unique = Field[UniqueKey | None](lambda given: UniqueKey(given["key"], given["until"], given["on_conflict"]))
    parent = Field[str | None]()
    blocked_by = Field[str | None]()

    @property
    def finished(self) -> bool:
        """It has succeeded, failed or been cancelled."""
        return self.status in FINISHED

    @property
    def ended(self) -> bool:
        """It has finished, or cannot be read: nothing more comes of it by waiting."""
        return self.finished or self.status == UNREADABLE

    def __repr__(self) -> str:
        return f"<{self.__class__.__name__} {self.uid} {self.document['type']} {self.status}>"
