"""One attempt: the handler's context, its call, and what its end means for the document."""

import json
import logging
import math
import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeAlias

import msgspec

from service import logs
from service import task as tasks
from service.errors import Cancelled, Reject, Retry, Stopping, TimedOut
from service.registry import TaskType
from service.sentry import NO_ERRORS, Errors
from service.task import Task, TaskError

RESULT_LIMIT: Final = 256 * 1024
LONGEST_PAUSE_SECONDS: Final = 10 * 366 * 86400
MESSAGE_LIMIT: Final = 8 * 1024

# What becomes of the document, whatever it says meanwhile; None if its fate is already written.
Transition: TypeAlias = Callable[[Task], Task]

_json = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"), check_circular=True)
_encode = msgspec.json.Encoder().encode
log = logging.getLogger("sandbox.task")


class Context:
    """What a handler may know and say while it runs."""

    __slots__ = ("attempt", "cancelled", "news", "request_id", "told", "type", "uid")

    def __init__(self, task: Task) -> None:
        self.uid = task.uid
        self.type = task.type
        self.attempt = task.attempt
        self.request_id = task.request_id
        self.cancelled = False
        self.told = False
        self.news: msgspec.Raw | None = None

    def progress(self, fraction: float | None = None, message: str = "") -> None:
        """Tells readers of the task how far it is: from 0 to 1, and in words. Published twice a second at most."""
        if fraction is not None and not (math.isfinite(fraction) and 0 <= fraction <= 1):
            raise ValueError(f"progress is from 0 to 1, not {fraction!r}")
        self.news = msgspec.Raw(_encode({"fraction": fraction, "message": _clean(str(message))}))

    @property
    def facts(self) -> dict[str, Any]:
        """What finds this attempt in the log."""
        return {"uid": self.uid, "type": self.type, "attempt": self.attempt, "request_id": self.request_id}

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        return logging.LoggerAdapter(log, {"fields": self.facts})


def run(
    task_type: TaskType, context: Context, task: Task, window: "Window", errors: Errors = NO_ERRORS
) -> Transition | None:
    """Calls the handler; answers the transition that its end means, or None for a cancelled task."""
    outside = logs.about.set(context.facts)
    try:
        return _run(task_type, context, task, window, errors)
    finally:
        logs.about.reset(outside)


def _run(task_type: TaskType, context: Context, task: Task, window: "Window", errors: Errors) -> Transition | None:
    started, begun = time.time(), time.perf_counter()
    try:
        try:
            window.open = True
            result = encode_result(task_type.run(context, task.args))
        finally:
            window.open = False
            window.close()
    except BaseException as raised:
        window.open = False
        error = _meant(raised)
        duration = time.perf_counter() - begun
        return _transition_of(error, context, started, duration, errors.capture(error, tags=about(task)))
    duration = time.perf_counter() - begun
    return partial(_succeed, result, started, duration)


class Window:
    """The time during which an attempt may be interrupted."""

    def __init__(self) -> None:
        self.open = False

    def close(self) -> None:
        """Takes back an interruption that has not arrived."""


def _succeed(result: msgspec.Raw, started: float, duration: float, task: Task) -> Task:
    return tasks.succeeded(task, result, tasks.stamp(started), tasks.stamp(started + duration), duration)


def about(task: Task) -> dict[str, object]:
    """What finds the task of an error."""
    runner = {} if task.claim is None else {"runner": task.claim.consumer}
    return {"type": task.type, "queue": task.queue, "attempt": task.attempt, "uid": task.uid, **runner}


def _transition_of(
    error: BaseException, context: Context, started: float, duration: float, event_id: str | None
) -> Transition | None:
    if isinstance(error, Cancelled):
        return None
    if isinstance(error, Stopping):
        return partial(tasks.handed_back, ran=True)
    if isinstance(error, TimedOut):
        return partial(time_out, started, duration, event_id=event_id)
    if isinstance(error, Reject | BadResult | BadRetry):
        return partial(fail, describe(error, event_id), started, duration)
    after = error.after if isinstance(error, Retry) else None
    if not isinstance(error, Retry):
        context.logger.info("an attempt failed", exc_info=error)
    return partial(fail_or_retry, describe(error, event_id), started, duration, after)


def fail(error: TaskError, started: float, duration: float, task: Task) -> Task:
    return tasks.failed(task, error, tasks.stamp(started), tasks.stamp(started + duration), duration)


def fail_or_retry(error: TaskError, started: float, duration: float, after: float | None, task: Task) -> Task:
    if task.failures + 1 >= task.max_attempts:
        return fail(error, started, duration, task)
    pause = tasks.backoff_seconds(task.failures + 1) if after is None else after
    run_at = tasks.stamp(started + duration + pause)
    return tasks.retried(task, error, tasks.stamp(started), duration, run_at)


def time_out(started: float, duration: float, task: Task, event_id: str | None = None) -> Task:
    message = f"the attempt took longer than its timeout of {task.timeout or duration:g} s"
    error = TaskError(type="TimedOut", message=message, event_id=event_id)
    return fail_or_retry(error, started, duration, None, task)


def time_out_late(now: float, task: Task, event_id: str | None = None) -> Task:
    """For an attempt that ended with its process, found later by somebody else."""
    begun = tasks.microseconds(task.started_at) / 1e6 if task.started_at else now - (task.timeout or 0.0)
    return time_out(min(begun, now), max(0.0, now - begun), task, event_id)


def fail_now(error: Exception, task: Task) -> Task:
    return fail(describe(error), time.time(), 0.0, task)


def crash(task: Task, now: float, event_id: str | None = None) -> Task:
    """The task has brought down as many runners as it may."""
    message = f"{tasks.CRASH_LIMIT} runners died while they ran this task"
    error = TaskError(type="Crashed", message=message, event_id=event_id)
    return tasks.crashed_for_good(task, error, tasks.stamp(now))


def describe(error: BaseException, event_id: str | None = None) -> TaskError:
    try:
        message = str(error)
    except Exception:
        message = "(its message could not be read)"
    return TaskError(type=type(error).__name__, message=_clean(message), event_id=event_id)


def _clean(text: str) -> str:
    """Text that any JSON parser takes, and not too much of it."""
    return text[:MESSAGE_LIMIT].encode("utf-8", "replace").decode()


class BadRetry(Exception):
    """A handler asked for another attempt at no possible time."""


def _meant(error: BaseException) -> BaseException:
    if isinstance(error, Retry) and error.after is not None and not _is_pause(error.after):
        unusable = BadRetry(f"Retry(after={error.after!r}): it must be a number of seconds, from 0 to ten years")
        return unusable.with_traceback(error.__traceback__)
    return error


def _is_pause(after: object) -> bool:
    return isinstance(after, int | float) and 0 <= after <= LONGEST_PAUSE_SECONDS


class BadResult(Exception):
    """What a handler returned cannot be stored."""


def encode_result(value: Any) -> msgspec.Raw:
    if value is None:
        return tasks.NULL
    try:
        text = _encode(value) if type(value) in (str, bool) else _json.encode(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BadResult(f"the result is not JSON-able: {error}") from error
    if len(text) > RESULT_LIMIT:
        raise BadResult(f"the result is {len(text):,} bytes of JSON; {RESULT_LIMIT:,} are allowed")
    if tasks.is_nested_too_deeply(value, text):
        raise BadResult(f"the result is nested more than {tasks.NESTING_LIMIT} levels deep")
    return msgspec.Raw(text)
