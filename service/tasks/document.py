"""The task document: its fields, how it is stored, and what clients see of it. Pure: no I/O, no clock.

A stored document leaves out what has its default value; whoever reads it gets it back. So the default of a field never
changes: it is part of documents that are stored already.
"""

from typing import Annotated, Any, ClassVar, Final

import msgspec
from msgspec import Meta

SCHEDULED: Final = "scheduled"
QUEUED: Final = "queued"
RUNNING: Final = "running"
SUCCEEDED: Final = "succeeded"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
UNREADABLE: Final = "unreadable"  # shown where what is stored is no task document; never stored
UNREADABLE_ERROR: Final = "Unreadable"  # the type of the error that such a one is shown with

STATUSES: Final = (SCHEDULED, QUEUED, RUNNING, SUCCEEDED, FAILED, CANCELLED)
SHOWN_STATUSES: Final = (*STATUSES, UNREADABLE)
FINISHED: Final = frozenset((SUCCEEDED, FAILED, CANCELLED))

HIGH: Final = "high"
NORMAL: Final = "normal"
LOW: Final = "low"
PRIORITIES: Final = (HIGH, NORMAL, LOW)

DEFAULT_MAX_ATTEMPTS: Final = 3

NESTING_LIMIT: Final = 64
TEXT_LIMIT: Final = 8 * 1024

NULL: Final = msgspec.Raw(b"null")
NO_ARGS: Final = msgspec.Raw(b"{}")


class Claim(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who runs the task: the runner's consumer, a token that no other claim has, and the queue entry; and the places of
    limits that it takes up.
    """

    consumer: str
    token: str
    stream: str
    entry: str
    places: tuple[str, ...] = ()


class Unique(msgspec.Struct, frozen=True):
    """A key of which one task of its type is there at a time, for how long this one has it, and what becomes of the
    next one that asks for it.
    """

    key: str
    until: str
    on_conflict: str


class TaskError(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True, dict=True):
    type: str
    message: str
    event_id: str | None = None

    unknown: ClassVar[dict[str, Any] | None] = None


def _described(text: str = "", **schema: Any) -> Meta:
    """For /openapi.json only: a stored document is read without further checks."""
    return Meta(extra_json_schema={"description": text, **schema} if text else schema)


_UID: Final = _described(pattern="^[0-9a-f]{64}$")
_STATUS: Final = _described(enum=list(SHOWN_STATUSES))
_MOMENT: Final = _described(format="date-time")
_OBJECT: Final = _described(type="object")
_COUNT: Final = _described(minimum=0)
_PRIORITY: Final = _described(enum=list(PRIORITIES))


class Task(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, dict=True):
    """The five fields without a default are in every stored document: earlier releases cannot do without."""

    uid: Annotated[str, _UID]
    type: str
    queue: str
    status: Annotated[str, _STATUS]
    args: Annotated[msgspec.Raw, _OBJECT] = NO_ARGS
    created_at: Annotated[str, _MOMENT]
    started_at: Annotated[str, _MOMENT] | None = None
    finished_at: Annotated[str, _MOMENT] | None = None
    duration: Annotated[float, _described("seconds that the last attempt took")] | None = None
    attempt: Annotated[int, _COUNT] = 0
    max_attempts: Annotated[int, _COUNT] = DEFAULT_MAX_ATTEMPTS
    failures: Annotated[int, _COUNT] = 0
    crashes: Annotated[int, _COUNT] = 0
    timeout: Annotated[float, _described("seconds that one attempt may take")] | None = None
    run_at: Annotated[str, _MOMENT] | None = None
    progress: Annotated[msgspec.Raw, _described(type=["object", "null"])] = NULL
    result: msgspec.Raw = NULL
    error: TaskError | None = None
    revision: int = 1
    claim: Claim | None = None
    runner: str | None = None  # the consumer that ran the last attempt of a finished task
    request: str | None = None
    request_id: Annotated[str, _described("the X-Request-ID of the request that created it")] | None = None
    created_by: Annotated[str, _described("the name of the token that created it")] | None = None
    priority: Annotated[str, _PRIORITY] = NORMAL
    schedule: Annotated[str, _described("the name of the schedule that created it")] | None = None
    scheduled_for: Annotated[str, _MOMENT] | None = None
    unique: Unique | None = None
    parent: Annotated[str | None, _described("the UID of the task that created it")] = None
    # Never stored: it is found out for who reads (service/store/limits.py).
    blocked_by: Annotated[str, _described("the limit at which it waits while it is queued")] | None = None

    # Fields of a newer release are carried along, never dropped (docs/store.md, Compare first).
    unknown: ClassVar[dict[str, Any] | None] = None

    @property
    def finished(self) -> bool:
        return self.status in FINISHED


INTERNAL: Final = ("revision", "claim", "runner", "request")
PUBLIC: Final = tuple(name for name in Task.__struct_fields__ if name not in INTERNAL)
_FIELDS: Final = frozenset(Task.__struct_fields__)
_ERROR_FIELDS: Final = frozenset(TaskError.__struct_fields__)

_encoder = msgspec.json.Encoder()
_decode_known = msgspec.json.Decoder(Task).decode


def encode(task: Task) -> bytes:
    text = _encoder.encode(task)
    if task.unknown is None:
        return text
    members = msgspec.json.decode(text, type=dict[str, msgspec.Raw]) | task.unknown
    if task.error is not None and task.error.unknown:
        members["error"] = msgspec.to_builtins(task.error) | task.error.unknown
    return _encoder.encode(members)


def decode(text: bytes) -> Task:
    try:
        return _decode_known(text)
    except msgspec.ValidationError:
        return _decode_with_unknown(text)


def _decode_with_unknown(text: bytes) -> Task:
    known, unknown = _told_apart(text, _FIELDS)
    error, unknown_of_error = _told_apart(known.get("error", NULL), _ERROR_FIELDS)
    if error:
        known["error"] = msgspec.Raw(_encoder.encode(error))
    task = _decode_known(_encoder.encode(known))
    task.unknown = unknown  # type: ignore[misc]
    if task.error is not None:
        task.error.unknown = unknown_of_error  # type: ignore[misc]
    return task


def _told_apart(
    text: bytes | msgspec.Raw, names: frozenset[str]
) -> tuple[dict[str, msgspec.Raw], dict[str, msgspec.Raw]]:
    """The members of an object whose names this release knows, and the others."""
    members = msgspec.json.decode(text, type=dict[str, msgspec.Raw] | None) or {}
    known = {name: value for name, value in members.items() if name in names}
    return known, {name: value for name, value in members.items() if name not in names}


def not_understood(task: Task) -> list[str]:
    """The fields that a newer release has set, and that a run by this one would ignore."""
    return [name for name, value in (task.unknown or {}).items() if bytes(value) != b"null"]


def public(task: Task) -> dict[str, Any]:
    """The document as clients see it, with every field."""
    fields = msgspec.structs.asdict(task) | (task.unknown or {})
    if task.error is not None:
        fields["error"] = msgspec.structs.asdict(task.error) | (task.error.unknown or {})
    for name in INTERNAL:
        del fields[name]
    return fields


def is_nested_too_deeply(value: Any, text: bytes) -> bool:
    """Deeper JSON would overflow the stack of some readers. `text` is the value as JSON."""
    if text.count(b"[") + text.count(b"{") <= NESTING_LIMIT:
        return False
    depth, level = 0, [value]
    while level := [member for member in level if isinstance(member, dict | list | tuple)]:
        depth += 1
        level = [inner for member in level for inner in (member.values() if isinstance(member, dict) else member)]
    return depth > NESTING_LIMIT


def storable_text(text: str) -> str:
    """The beginning of a text, without lone surrogates, which are not valid JSON."""
    return text[:TEXT_LIMIT].encode("utf-8", "replace").decode()
