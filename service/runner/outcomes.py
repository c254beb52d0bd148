"""What the end of an attempt makes of the task's document.

A handler ends by a result or by an exception. Each end becomes a transition: a function from the document, whatever
it says by then, to the document that is to be stored. `after_error` is the table.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, TypeAlias

import msgspec

from service.errors import Cancelled, Interrupted, Reject, Retry, Stopping, TimedOut
from service.observe import scrubber
from service.tasks import moments, transitions
from service.tasks.document import TEXT_LIMIT, Task, TaskError, storable_text

LONGEST_PAUSE_SECONDS: Final = 10 * 366 * 86400
Transition: TypeAlias = Callable[[Task], Task]


class BadResult(Exception):
    """What a handler returned cannot be stored."""


class BadRetry(Exception):
    """A handler asked for another attempt at no possible time, or pushes back what it is not bound by."""


class Crashed(Exception):
    """The process that an attempt had for itself has died."""


class BadInterruption(Exception):
    """A handler raised by itself what only a runner may raise in it."""


FINAL: Final = (Reject, BadResult, BadRetry)  # another attempt would not help
hand_back: Final[Transition] = partial(transitions.handed_back, ran=True)
hand_back_unstarted: Final[Transition] = partial(transitions.handed_back, ran=False)


def succeed(result: msgspec.Raw, started: float, duration: float, task: Task) -> Task:
    return transitions.succeeded(task, result, moments.stamp(started), moments.stamp(started + duration), duration)


def with_news(transition: Transition, news: msgspec.Raw | None) -> Transition:
    return transition if news is None else partial(with_progress, transition, news)


def with_progress(transition: Transition, news: msgspec.Raw, task: Task) -> Task:
    """Settles what the handler said last of its progress together with its outcome."""
    after = transition(task)
    after.progress = news
    return after


def after_error(error: BaseException, started: float, duration: float, event_id: str | None) -> Transition:
    """`error` as `checked` returns it: an interruption is one of ours. What it returns makes the same of the same
    document each time: so an outcome is recognised whose answer was lost.
    """
    share = transitions.backoff_share()
    if isinstance(error, TimedOut):
        return partial(time_out, started, duration, event_id=event_id, share=share)
    if isinstance(error, Cancelled | Stopping):
        return hand_back  # the document of a cancelled task has changed, and will not take it
    if isinstance(error, FINAL):
        return partial(fail, describe(error, event_id), started, duration)
    after = error.after if isinstance(error, Retry) else None
    return partial(fail_or_retry, describe(error, event_id), started, duration, after, share=share)


def is_last(task: Task) -> bool:
    """If this attempt fails, is none left?"""
    return task.failures + 1 >= task.max_attempts


def checked(
    error: BaseException, *, interrupted_by: type[Interrupted] | None, limits: Sequence[str] = ()
) -> BaseException:
    """The error itself; BadRetry for a Retry with a pause that cannot be, or a limit that the type does not name;
    BadInterruption where a handler raises one of our interruptions by itself.
    """
    if isinstance(error, Interrupted) and not (interrupted_by and isinstance(error, interrupted_by)):
        by = f"{interrupted_by.__name__} has" if interrupted_by else "nobody has"
        own = BadInterruption(f"the handler raised {type(error).__name__}, and {by} interrupted it")
        return own.with_traceback(error.__traceback__)
    if isinstance(error, Retry) and error.after is not None and not _is_pause(error.after):
        unusable = BadRetry(f"Retry(after={error.after!r}): it must be a number of seconds, from 0 to ten years")
        return unusable.with_traceback(error.__traceback__)
    if isinstance(error, Retry) and error.limit is not None and (error.after is None or error.limit not in limits):
        lacking = "it goes with after=…" if error.after is None else f"the type names these: {', '.join(limits) or '-'}"
        return BadRetry(f"Retry(limit={error.limit!r}): {lacking}").with_traceback(error.__traceback__)
    return error


def _is_pause(after: object) -> bool:
    return isinstance(after, int | float) and 0 <= after <= LONGEST_PAUSE_SECONDS


def fail(error: TaskError, started: float, duration: float, task: Task) -> Task:
    return transitions.failed(task, error, moments.stamp(started), moments.stamp(started + duration), duration)


def fail_or_retry(
    error: TaskError, started: float, duration: float, after: float | None, task: Task, share: float | None = None
) -> Task:
    if is_last(task):
        return fail(error, started, duration, task)
    pause = transitions.backoff_seconds(task.failures + 1, share) if after is None else after
    run_at = moments.stamp(started + duration + pause)
    return transitions.retried(task, error, moments.stamp(started), duration, run_at)


def failure(error: Exception) -> Transition:
    return partial(fail, describe(error), time.time(), 0.0)


def time_out(
    started: float, duration: float, task: Task, event_id: str | None = None, share: float | None = None
) -> Task:
    message = f"the attempt took longer than its timeout of {task.timeout or duration:g} s"
    error = TaskError(type="TimedOut", message=message, event_id=event_id)
    return fail_or_retry(error, started, duration, None, task, share)


def time_out_late(now: float, task: Task, event_id: str | None = None) -> Task:
    """For an attempt that ended with its process, found later by somebody else."""
    begun = moments.microseconds(task.started_at) / 1e6 if task.started_at else now - (task.timeout or 0.0)
    return time_out(min(begun, now), max(0.0, now - begun), task, event_id)


def crash(task: Task, now: float, event_id: str | None = None) -> Task:
    """The task has brought down as many runners as it may."""
    message = f"{transitions.CRASH_LIMIT} runners died while they ran this task"
    error = TaskError(type="Crashed", message=message, event_id=event_id)
    return transitions.crashed_for_good(task, error, moments.stamp(now))


def describe(error: BaseException, event_id: str | None = None) -> TaskError:
    """Without secrets: an error's message may hold a command line or a URL."""
    try:
        message = scrubber.line(str(error), TEXT_LIMIT - len(scrubber.CUT))
    except BaseException:  # a SystemExit, say, would end the runner
        message = "(its message could not be read)"
    return TaskError(type=type(error).__name__, message=storable_text(message), event_id=event_id)


def tags(task: Task) -> dict[str, object]:
    """By these an error's report is found in Sentry."""
    runner = {} if task.claim is None else {"runner": task.claim.consumer}
    return {"type": task.type, "queue": task.queue, "attempt": task.attempt, "uid": task.uid, **runner}
