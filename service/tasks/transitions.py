"""How a task changes. A transition takes a task and returns a new one.

It leaves its argument as it is: the store stores a change only if Redis still holds what the argument was read from
(docs/store.md, Compare first).
"""

import random
from typing import Final

import msgspec

from service.errors import InvalidTransition
from service.tasks.document import (
    CANCELLED,
    FAILED,
    NULL,
    QUEUED,
    RUNNING,
    SCHEDULED,
    SUCCEEDED,
    UNREADABLE,
    Claim,
    Task,
    TaskError,
)

CRASH_LIMIT: Final = 3
RELEASE_DEPLOY: Final = "release.deploy"
WORKSPACE_DELETE: Final = "workspace.delete"
NOT_AGAIN: Final = {
    RELEASE_DEPLOY: "nobody retries a release.deploy: who may asks anew, by POST /releases/<id>/promote or its button",
    WORKSPACE_DELETE: "nobody retries a workspace.delete: ask anew, by DELETE /workspaces/<slug> or its button",
}  # by type: what one person has asked for then, and a retry of many must not repeat
DURATION_DIGITS: Final = 6  # microseconds, as in every moment; further digits would only make documents longer
BACKOFF_FIRST_SECONDS: Final = 1.0
BACKOFF_LONGEST_SECONDS: Final = 600.0
POSTPONED_SHORTEST_SECONDS: Final = 2.0
POSTPONED_LONGEST_SECONDS: Final = 60.0


def _next(task: Task, status: str) -> Task:
    if task.status == UNREADABLE:
        raise InvalidTransition(f"the task cannot be read, and stays so; DELETE /tasks/{task.uid}?purge removes it")
    following: Task = task.__copy__()  # type: ignore[attr-defined]  # copy.copy() takes three times as long
    following.status = status
    following.revision = task.revision + 1
    following.claim = following.runner = following.blocked_by = None
    if task.unknown is not None:
        following.unknown = task.unknown  # type: ignore[misc]
    return following


def _ended(task: Task, status: str) -> Task:
    """It remembers who ran it, if somebody did."""
    following = _next(task, status)
    if task.claim is not None:
        following.runner = task.claim.consumer
    return following


def claimed(task: Task, claim: Claim, *, crashed: bool = False) -> Task:
    """A runner takes the task; the handler has not started yet.

    A running task is taken over from a runner that is gone. If the task brought that runner down (`crashed`), this is
    another attempt. If not, its handler had not started, and this is still the same attempt.
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
    following = _ended(task, SUCCEEDED)
    following.result = result
    following.error = None
    following.started_at = started_at
    following.finished_at = finished_at
    following.duration = round(duration, DURATION_DIGITS)
    return following


def failed(task: Task, error: TaskError, started_at: str | None, finished_at: str, duration: float) -> Task:
    """The task ends: no attempt is left, or another one would not help."""
    following = _ended(task, FAILED)
    following.error = error
    following.failures = task.failures + 1
    following.started_at = started_at
    following.finished_at = finished_at
    following.duration = round(duration, DURATION_DIGITS)
    return following


def retried(task: Task, error: TaskError, started_at: str, duration: float, run_at: str) -> Task:
    """The attempt failed, another one is due later."""
    following = _next(task, SCHEDULED)
    following.error = error
    following.failures = task.failures + 1
    following.started_at = started_at
    following.duration = round(duration, DURATION_DIGITS)
    following.run_at = run_at
    return following


def crashed_for_good(task: Task, error: TaskError, finished_at: str) -> Task:
    following = _ended(task, FAILED)
    following.error = error
    following.crashes = task.crashes + 1
    following.finished_at = finished_at
    return following


def handed_back(task: Task, *, ran: bool) -> Task:
    """Back to the queue, without a charge. `ran`: its handler had started, so the attempt counts."""
    following = _next(task, QUEUED)
    if task.status == RUNNING and not ran:
        following.attempt = task.attempt - 1
        following.started_at = None
    return following


def postponed(task: Task, run_at: str) -> Task:
    """This runner cannot run it, but a runner of another release may: it is due again a little later."""
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
        raise InvalidTransition(f"the task has already {_WORDS[task.status]}")
    following = _ended(task, CANCELLED)
    following.finished_at = at
    following.run_at = None
    return following


def replaced(task: Task, by: str, at: str) -> Task:
    """It has not started, and another task is to have its unique key."""
    following = cancelled(task, at)
    message = f"the task {by} has taken its place: it has the same unique key"
    following.error = TaskError(type="Replaced", message=message)
    return following


def requeued(task: Task) -> Task:
    """A client wants it run again. It has all its attempts again, and they are counted from 1."""
    if task.type in NOT_AGAIN:
        raise InvalidTransition(NOT_AGAIN[task.type])
    if task.status not in (FAILED, CANCELLED, UNREADABLE):
        raise InvalidTransition(f"only a failed or cancelled task can be retried; this one is {task.status}")
    following = _next(task, QUEUED)
    following.attempt = following.failures = following.crashes = 0
    following.started_at = following.finished_at = following.duration = following.run_at = None
    following.error = None
    following.progress = following.result = NULL
    return following


_WORDS: Final = {SUCCEEDED: "succeeded", FAILED: "failed", CANCELLED: "been cancelled"}


def backoff_share() -> float:
    return random.uniform(0.5, 1.0)


def backoff_seconds(failures: int, share: float | None = None) -> float:
    """The pause after so many failures: it doubles each time, and up to half of it is taken off by chance. `share` is
    what is left, where chance has decided before.
    """
    longest: float = min(BACKOFF_FIRST_SECONDS * 2 ** min(failures - 1, 30), BACKOFF_LONGEST_SECONDS)
    return longest * (backoff_share() if share is None else share)


def postponement_seconds(age_seconds: float) -> float:
    """For how long a task is put aside that this runner cannot run: a tenth of its age, within limits."""
    return min(POSTPONED_LONGEST_SECONDS, max(POSTPONED_SHORTEST_SECONDS, age_seconds / 10))
