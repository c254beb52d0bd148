"""What is told of each attempt: who ran it, when, and how it ended.

The document tells of the attempt that runs, and of the last one when the task has finished. Any change after which the
document tells of an attempt no more gives a line (`ended`), which the store keeps beside the document. So a task with
one attempt has no such line.
"""

from typing import Any, Final

import msgspec

from service.tasks import moments
from service.tasks.document import CANCELLED, FAILED, QUEUED, RUNNING, SUCCEEDED, Task, TaskError

RETRIED: Final = "retried"
CRASHED: Final = "crashed"
TIMED_OUT: Final = "timed_out"
HANDED_BACK: Final = "handed_back"
REJECTED: Final = "rejected"
OUTCOMES: Final = (SUCCEEDED, FAILED, RETRIED, CRASHED, TIMED_OUT, CANCELLED, HANDED_BACK, REJECTED)

_OF_ERRORS: Final = {"TimedOut": TIMED_OUT, "Crashed": CRASHED, "Reject": REJECTED}
_DIED: Final = "its runner died while it ran this task"


class Attempt(msgspec.Struct, kw_only=True, omit_defaults=True):
    attempt: int
    runner: str | None = None
    started_at: str | None = None
    finished_at: str | None = None
    duration: float | None = None
    outcome: str | None = None
    error: dict[str, Any] | None = None  # as in the document


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(Attempt).decode


def ended(before: Task, after: Task, now: str, event_id: str | None = None) -> Attempt | None:
    """The attempt of which the document tells before a change, and not after it. `event_id` is that of a crash."""
    if before.finished:
        return latest(before) if after.status == QUEUED else None
    if before.status != RUNNING or after.finished:
        return None
    if after.status == RUNNING:
        if after.crashes == before.crashes:
            return None
        return _line(before, before, now, CRASHED, TaskError(type="Crashed", message=_DIED, event_id=event_id))
    if after.attempt < before.attempt:
        return None  # its handler had not started
    if after.failures == before.failures:
        return _line(before, before, now, HANDED_BACK)
    return _line(before, after, _end(after) or now, _of_error(after.error, RETRIED), after.error)


def latest(task: Task) -> Attempt | None:
    """The attempt that runs, or that a finished task ended with; None where the document tells of none."""
    if task.status == RUNNING:
        return _line(task, task, None, None)
    if task.status == CANCELLED and task.runner is not None:
        return _line(task, task, task.finished_at, CANCELLED)
    if task.status == SUCCEEDED and task.attempt:
        return _line(task, task, task.finished_at, SUCCEEDED)
    if task.status == FAILED and task.attempt:
        return _line(task, task, task.finished_at, _of_error(task.error, FAILED), task.error)
    return None


def _line(
    whose: Task, times: Task, finished_at: str | None, outcome: str | None, error: TaskError | None = None
) -> Attempt:
    return Attempt(
        attempt=whose.attempt,
        runner=whose.claim.consumer if whose.claim else whose.runner,
        started_at=times.started_at,
        finished_at=finished_at,
        duration=_seconds(times, finished_at),
        outcome=outcome,
        error=None if error is None else msgspec.structs.asdict(error),
    )


def _seconds(task: Task, finished_at: str | None) -> float | None:
    if finished_at is None or task.started_at is None:
        return None
    if task.duration is not None:
        return task.duration
    return max(0, moments.microseconds(finished_at) - moments.microseconds(task.started_at)) / 1e6


def _end(task: Task) -> str | None:
    if task.started_at is None or task.duration is None:
        return None
    return moments.stamp_exactly(moments.microseconds(task.started_at) + round(task.duration * 1e6))


def _of_error(error: TaskError | None, otherwise: str) -> str:
    return _OF_ERRORS.get(error.type, otherwise) if error else otherwise
