"""The task document: what it holds, how it changes, how it is written. Pure: no I/O, no clock.

A transition takes a task and returns another one. It never changes its argument, because the
string that was read is what the store compares with (rule 4).
"""

import binascii
import hashlib
import os
import random
from datetime import UTC, datetime
from typing import Any, ClassVar, Final

import msgspec

from service.errors import InvalidTransition

SCHEDULED: Final = "scheduled"
QUEUED: Final = "queued"
RUNNING: Final = "running"
SUCCEEDED: Final = "succeeded"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"

STATUSES: Final = (SCHEDULED, QUEUED, RUNNING, SUCCEEDED, FAILED, CANCELLED)
FINISHED: Final = frozenset((SUCCEEDED, FAILED, CANCELLED))

CRASH_LIMIT: Final = 3
DEFAULT_MAX_ATTEMPTS: Final = 3
BACKOFF_FIRST_SECONDS: Final = 1.0
BACKOFF_LONGEST_SECONDS: Final = 600.0
POSTPONED_SHORTEST_SECONDS: Final = 2.0
POSTPONED_LONGEST_SECONDS: Final = 60.0

NESTING_LIMIT: Final = 64

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

    # Fields that a newer release wrote: carried along, never dropped (rule 4).
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


# --- time -------------------------------------------------------------------------------------

_second_text: tuple[int, str] = (-1, "")


def stamp(seconds: float) -> str:
    """RFC 3339 in UTC with microseconds. The text of a second is kept: most calls share it."""
    global _second_text
    whole = int(seconds)
    second, text = _second_text
    if second != whole:
        text = datetime.fromtimestamp(whole, UTC).strftime("%Y-%m-%dT%H:%M:%S.")
        _second_text = (whole, text)
    return f"{text}{int((seconds - whole) * 1_000_000):06d}Z"


_second_number: tuple[str, int] = ("", 0)


def microseconds(moment: str) -> int:
    """The inverse of `stamp`, in microseconds since the epoch."""
    global _second_number
    text, number = _second_number
    if not moment.startswith(text) or not text:
        text = moment[:19]
        number = int(datetime.fromisoformat(text + "+00:00").timestamp()) * 1_000_000
        _second_number = (text, number)
    return number + int(moment[20:26])


# --- the UID and its slot (rule 2) --------------------------------------------------------------

SLOTS: Final = 16384
_HEX: Final = b"0123456789abcdef"


def slot(key: bytes) -> int:
    """Where Redis Cluster places a key without braces."""
    return binascii.crc_hqx(key, 0) % SLOTS


_TAILS: Final = [bytes((a, b)) for a in _HEX for b in _HEX]
_TAIL_SLOTS: Final = [slot(tail) for tail in _TAILS]
_MIDDLES: Final = {slot(bytes((a, b, c, 0, 0))): bytes((a, b, c)) for a in _HEX for b in _HEX for c in _HEX}


def steer(prefix: str, wanted: int) -> str:
    """Five hex characters that bring a prefix into the wished slot.

    CRC-16 is linear: slot(prefix + suffix) = slot(prefix + zeros) xor slot(suffix), and the suffix
    splits in the same way into three characters (a table) and two (tried in turn).
    """
    missing = slot(prefix.encode() + b"\0\0\0\0\0") ^ wanted
    for tail, tail_slot in zip(_TAILS, _TAIL_SLOTS, strict=True):
        middle = _MIDDLES.get(missing ^ tail_slot)
        if middle is not None:
            return prefix + (middle + tail).decode()
    raise AssertionError(f"no suffix reaches slot {wanted}")  # five characters reach all 16,384


def random_prefix() -> str:
    return os.urandom(30).hex()[:59]


def prefix_for(caller: str, key: str, index: int = 0) -> str:
    """The UID's first 59 characters for a caller's Idempotency-Key and the place in a batch."""
    seed = f"{len(caller)}:{caller}{len(key)}:{key}{index}"
    return hashlib.sha256(seed.encode()).hexdigest()[:59]


# --- transitions ---------------------------------------------------------------------------------


def _next(task: Task, status: str) -> Task:
    following: Task = task.__copy__()  # type: ignore[attr-defined]  # copy.copy() takes three times as long
    following.status = status
    following.revision = task.revision + 1
    following.claim = None
    if task.unknown is not None:
        following.unknown = task.unknown  # type: ignore[misc]
    return following


def claimed(task: Task, claim: Claim, *, crashed: bool = False) -> Task:
    """A runner takes it; the handler has not started yet.

    A running task is claimed anew from a runner that is gone. Unless it was the one that brought
    the runner down, its handler had not started, and the attempt is the same one.
    """
    following = _next(task, RUNNING)
    following.claim = claim
    if crashed:
        following.crashes = task.crashes + 1
    if crashed or task.status != RUNNING:
        following.attempt = task.attempt + 1
    following.started_at = following.finished_at = following.duration = None
    following.progress = NULL
    return following


def started(task: Task, at: str) -> Task:
    """The handler has been running for a while: let readers see since when."""
    following = _next(task, RUNNING)
    following.claim = task.claim
    following.started_at = at
    return following


def progressed(task: Task, progress: msgspec.Raw) -> Task:
    following = _next(task, RUNNING)
    following.claim = task.claim
    following.progress = progress
    return following


def succeeded(task: Task, result: msgspec.Raw, started_at: str, finished_at: str, duration: float) -> Task:
    following = _next(task, SUCCEEDED)
    following.result = result
    following.error = None
    following.started_at = started_at
    following.finished_at = finished_at
    following.duration = duration
    return following


def failed(task: Task, error: TaskError, started_at: str | None, finished_at: str, duration: float) -> Task:
    """For good: no attempt is left, or another one would not help."""
    following = _next(task, FAILED)
    following.error = error
    following.failures = task.failures + 1
    following.started_at = started_at
    following.finished_at = finished_at
    following.duration = duration
    return following


def retried(task: Task, error: TaskError, started_at: str, duration: float, run_at: str) -> Task:
    """The attempt failed, another one is due later."""
    following = _next(task, SCHEDULED)
    following.error = error
    following.failures = task.failures + 1
    following.started_at = started_at
    following.duration = duration
    following.run_at = run_at
    return following


def crashed_for_good(task: Task, error: TaskError, finished_at: str) -> Task:
    following = _next(task, FAILED)
    following.error = error
    following.crashes = task.crashes + 1
    following.finished_at = finished_at
    return following


def handed_back(task: Task, *, ran: bool) -> Task:
    """Back to the queue, uncharged; an attempt that never began does not count up."""
    following = _next(task, QUEUED)
    if task.status == RUNNING and not ran:
        following.attempt = task.attempt - 1
        following.started_at = None
    return following


def postponed(task: Task, run_at: str) -> Task:
    """Not for this runner: somebody else may understand it, a little later."""
    following = handed_back(task, ran=False)
    following.status = SCHEDULED
    following.run_at = run_at
    return following


def promoted(task: Task) -> Task:
    following = _next(task, QUEUED)
    following.run_at = None
    return following


def cancelled(task: Task, at: str) -> Task:
    if task.finished:
        raise InvalidTransition(f"the task has already {_ENDED[task.status]}")
    following = _next(task, CANCELLED)
    following.finished_at = at
    following.run_at = None
    return following


def requeued(task: Task) -> Task:
    """A client wants it run again: it gets its full number of attempts."""
    if task.status not in (FAILED, CANCELLED):
        raise InvalidTransition(f"only a failed or cancelled task can be retried; this one is {task.status}")
    following = _next(task, QUEUED)
    following.failures = following.crashes = 0
    following.started_at = following.finished_at = following.duration = following.run_at = None
    following.error = None
    following.progress = following.result = NULL
    return following


_ENDED: Final = {SUCCEEDED: "succeeded", FAILED: "failed", CANCELLED: "been cancelled"}


def backoff_seconds(failures: int) -> float:
    """How long to wait after so many failures: doubling, with half of it left to chance."""
    longest: float = min(BACKOFF_FIRST_SECONDS * 2 ** min(failures - 1, 30), BACKOFF_LONGEST_SECONDS)
    return longest * random.uniform(0.5, 1.0)


def postponement_seconds(age_seconds: float) -> float:
    """For how long to put aside what this runner does not understand: the older it is, the less soon."""
    return min(POSTPONED_LONGEST_SECONDS, max(POSTPONED_SHORTEST_SECONDS, age_seconds / 10))
