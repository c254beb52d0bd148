"""The task document: what it holds, how it changes, how it is written. Pure: no I/O, no clock.

A transition takes a task and returns another one. It never changes its argument, because the
string that was read is what the store compares with (docs/store.md, Compare first).
"""

from typing import Any, ClassVar, Final

import msgspec

SCHEDULED: Final = "scheduled"
QUEUED: Final = "queued"
RUNNING: Final = "running"
SUCCEEDED: Final = "succeeded"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"

STATUSES: Final = (SCHEDULED, QUEUED, RUNNING, SUCCEEDED, FAILED, CANCELLED)
FINISHED: Final = frozenset((SUCCEEDED, FAILED, CANCELLED))

DEFAULT_MAX_ATTEMPTS: Final = 3

NESTING_LIMIT: Final = 64
TEXT_LIMIT: Final = 8 * 1024

NULL: Final = msgspec.Raw(b"null")
NO_ARGS: Final = msgspec.Raw(b"{}")


class Claim(msgspec.Struct, frozen=True):
    """Who runs the task: the consumer, a token that no other claim has, and the queue entry."""

    consumer: str
    token: str
    stream: str
    entry: str


class TaskError(msgspec.Struct, forbid_unknown_fields=True, dict=True):
    type: str
    message: str
    event_id: str | None = None

    unknown: ClassVar[dict[str, Any] | None] = None


class Task(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, dict=True):
    uid: str
    type: str
    queue: str
    status: str
    args: msgspec.Raw = NO_ARGS
    created_at: str
    started_at: str | None = None
    finished_at: str | None = None
    duration: float | None = None
    attempt: int = 0
    max_attempts: int = DEFAULT_MAX_ATTEMPTS
    failures: int = 0
    crashes: int = 0
    timeout: float | None = None
    run_at: str | None = None
    progress: msgspec.Raw = NULL
    result: msgspec.Raw = NULL
    error: TaskError | None = None
    revision: int = 1
    claim: Claim | None = None
    request: str | None = None
    request_id: str | None = None

    # Fields that a newer release wrote: carried along, never dropped (docs/store.md, Compare first).
    unknown: ClassVar[dict[str, Any] | None] = None

    @property
    def finished(self) -> bool:
        return self.status in FINISHED


INTERNAL: Final = ("revision", "claim", "request")
_FIELDS: Final = frozenset(Task.__struct_fields__)
_ERROR_FIELDS: Final = frozenset(TaskError.__struct_fields__)

_encoder = msgspec.json.Encoder()
_decode_known = msgspec.json.Decoder(Task).decode


def encode(task: Task) -> bytes:
    if task.unknown is None:
        return _encoder.encode(task)
    fields = msgspec.structs.asdict(task) | task.unknown
    if task.error is not None and task.error.unknown:
        fields["error"] = msgspec.structs.asdict(task.error) | task.error.unknown
    return _encoder.encode(fields)


def decode(text: bytes) -> Task:
    try:
        return _decode_known(text)
    except msgspec.ValidationError:
        return _decode_with_unknown(text)


def decode_or_none(text: bytes | None) -> Task | None:
    """None for what is no task."""
    try:
        return None if text is None else decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return None


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
    """The members that this release knows, and the others."""
    members = msgspec.json.decode(text, type=dict[str, msgspec.Raw] | None) or {}
    known = {name: value for name, value in members.items() if name in names}
    return known, {name: value for name, value in members.items() if name not in names}


def not_understood(task: Task) -> list[str]:
    """The fields that a newer release has set, and that this one would therefore ignore."""
    return [name for name, value in (task.unknown or {}).items() if bytes(value) != b"null"]


def public(task: Task) -> dict[str, Any]:
    """The document as clients see it."""
    fields = msgspec.structs.asdict(task) | (task.unknown or {})
    for name in INTERNAL:
        del fields[name]
    return fields


def is_nested_too_deeply(value: Any, text: bytes) -> bool:
    """Every reader must be able to decode it, however deep its own stack is. `text` is the value as JSON."""
    if text.count(b"[") + text.count(b"{") <= NESTING_LIMIT:
        return False
    depth, level = 0, [value]
    while level := [member for member in level if isinstance(member, dict | list | tuple)]:
        depth += 1
        level = [inner for member in level for inner in (member.values() if isinstance(member, dict) else member)]
    return depth > NESTING_LIMIT


def storable_text(text: str) -> str:
    """Text that any JSON parser takes, and not too much of it."""
    return text[:TEXT_LIMIT].encode("utf-8", "replace").decode()
