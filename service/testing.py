"""Runs a handler in a test: by the code of a runner, with a context of its own, and without Redis.

    outcome = run(build_report, month="2026-10")
    assert outcome.result == {"path": "/reports/2026-10.pdf"}

No clock runs against the handler, and no signal ends it: `interrupt` raises at a call of `context.progress`.
"""

import logging
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec

from service.errors import Cancelled, Interrupted, InvalidTask, InvalidTaskType, TimedOut
from service.observe import logs
from service.observe.sentry import NoErrors
from service.runner import attempt as runner
from service.runner import programs
from service.runner.window import Window
from service.tasks import moments, transitions
from service.tasks.context import Child, Context
from service.tasks.declare import TaskType, marked_type
from service.tasks.document import RUNNING, Task, TaskError
from service.tasks.uid import prefix_for_child, slot, steer

__all__ = ["CreatedTask", "InvalidTask", "LogLine", "NotInterrupted", "Outcome", "Step", "run"]

Interruption = type[Cancelled] | type[TimedOut]
OF_A_HANDLER: Final = (Exception, Interrupted, SystemExit)  # anything else is the test's own, as pytest.skip


class Step(NamedTuple):
    fraction: float | None
    message: str


class LogLine(NamedTuple):
    level: str
    message: str


class CreatedTask(NamedTuple):
    """A task that the handler has created. Its type and arguments are as they were given: only a runner checks them."""

    uid: str
    type: str
    args: dict[str, Any]
    key: str | None


class NotInterrupted(AssertionError):
    """The handler ended before the call of `context.progress` that was to interrupt it."""


@dataclass(frozen=True, repr=False)
class Outcome:
    """What the attempt means for the task."""

    status: str  # succeeded, failed, cancelled; or scheduled: it will be tried again
    result: Any  # as a client reads it: a tuple has become a list
    error: TaskError | None  # with its `type` and `message`, as a client reads it
    exception: BaseException | None  # behind that error, with its traceback
    retry_after: float | None  # in how many seconds it will be tried again
    progress: list[Step]  # each call of context.progress
    logs: list[LogLine]  # of every logger, from `info` on; of context.log; of the programs of context.run
    created: list[CreatedTask]  # by context.create and create_many

    def __repr__(self) -> str:
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return f"Outcome({', '.join(f'{name}={value!r}' for name, value in values.items() if value not in (None, []))})"


def run(
    handler: Callable[..., Any],
    args: Mapping[str, Any] | None = None,
    /,
    *,
    attempt: int = 1,
    uid: str | None = None,
    request_id: str | None = None,
    interrupt: Interruption | None = None,
    at_progress: int = 1,
    **arguments: Any,
) -> Outcome:
    """Runs one attempt of a task, and returns what becomes of the task.

    `args` and `arguments` are for the handler. Raises InvalidTask, with the words that a client reads, if it cannot
    take them. All attempts before this one have failed. `interrupt=Cancelled` or `TimedOut` is raised in the handler
    at its first call of `context.progress`, or at the one that `at_progress` counts. What ends the test, such as
    `pytest.fail` in the handler, is raised on.
    """
    task_type = marked_type(handler)
    if task_type is None:
        raise InvalidTaskType(f"{handler!r} is no task type: it lacks @task(...)")
    accepted = task_type.accept(msgspec.Raw(msgspec.json.encode({**(args or {}), **arguments})))
    task = _running(task_type, accepted, attempt, uid or secrets.token_hex(32), request_id)
    context = _TestContext(task, interrupt, at_progress)
    raised = _Raised()
    with _listening() as lines:
        context.told = lines
        after = _attempted(task_type, context, task, raised)
    if raised.error is not None and not isinstance(raised.error, OF_A_HANDLER):
        raise raised.error
    if interrupt is not None and not context.cancelled:
        told = f"the handler called context.progress {len(context.heard)} times, not {at_progress}"
        raise NotInterrupted(told) from raised.error
    return _outcome(after, raised.error, context, lines)


def _running(task_type: TaskType, args: msgspec.Raw, attempt: int, uid: str, request_id: str | None) -> Task:
    return Task(
        uid=uid,
        type=task_type.name,
        queue=task_type.queue,
        status=RUNNING,
        args=args,
        created_at=moments.stamp(time.time()),
        attempt=attempt,
        failures=attempt - 1,
        max_attempts=task_type.max_attempts,
        timeout=task_type.timeout,
        request_id=request_id,
    )


def _attempted(task_type: TaskType, context: "_TestContext", task: Task, raised: "_Raised") -> Task:
    """The document after the attempt. All that a runner does is asked for here."""
    transition = runner.run(task_type, context, task, context.window, raised)
    programs.end_left(context.window)
    if context.interrupt is Cancelled:  # whatever the handler returned: nobody waits for it
        return transitions.cancelled(task, moments.stamp(time.time()))
    return transition(task)


class _TestContext(Context):
    """Keeps all that is told, and interrupts."""

    __slots__ = ("_at_progress", "children", "heard", "interrupt", "told", "window")

    def __init__(self, task: Task, interrupt: Interruption | None, at_progress: int) -> None:
        self.window = Window()
        super().__init__(task, partial(programs.run, self.window), _create)
        self.children: list[CreatedTask] = []
        self.told: list[LogLine] = []
        self.heard: list[Step] = []
        self.interrupt = interrupt
        self._at_progress = at_progress

    def keep(self, level: str, text: str) -> None:
        self.told.append(LogLine(level, text))

    def progress(self, fraction: float | None = None, message: str = "") -> None:
        super().progress(fraction, message)
        self.heard.append(Step(**msgspec.json.decode(self.news or b"")))
        if self.interrupt is not None and len(self.heard) == self._at_progress:
            self.cancelled = True
            self.window.reason = self.interrupt
            raise self.interrupt


def _create(context: Context, children: Sequence[Child]) -> list[str]:
    """The UIDs are those of a service with one partition, where the types are not unique."""
    assert isinstance(context, _TestContext)
    made = [
        CreatedTask(
            steer(prefix_for_child(context.uid, child.key), slot(b"0")),
            child.type,
            msgspec.json.decode(child.args),
            child.key if isinstance(child.key, str) else None,
        )
        for child in children
    ]
    there = {each.uid for each in context.children}
    context.children += [each for each in made if each.uid not in there]
    return [each.uid for each in made]


class _Raised(NoErrors):
    """Keeps the error that would go to Sentry."""

    error: BaseException | None = None

    def capture(self, error: BaseException, **_: Any) -> None:
        self.error = error


class _Listener(logging.Handler):
    """Hears a line before pytest does, which would raise where the arguments of a call do not fit."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.lines: list[LogLine] = []

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception:
            message = record.msg = logs.message(record)
            record.args = None
        self.lines.append(LogLine(record.levelname.lower(), message))


@contextmanager
def _listening() -> Iterator[list[LogLine]]:
    """To every logger, at the level that a runner has by default."""
    root, listener = logging.getLogger(), _Listener()
    level = root.level
    root.handlers.insert(0, listener)
    root.setLevel(min(level, logging.INFO))
    try:
        yield listener.lines
    finally:
        root.setLevel(level)
        root.removeHandler(listener)


def _outcome(task: Task, exception: BaseException | None, context: _TestContext, logs: list[LogLine]) -> Outcome:
    return Outcome(
        status=task.status,
        result=msgspec.json.decode(task.result),
        error=task.error,
        exception=exception,
        retry_after=_retry_after(task),
        progress=context.heard,
        logs=logs,
        created=context.children,
    )


def _retry_after(task: Task) -> float | None:
    if task.run_at is None or task.started_at is None:
        return None
    since_start = (moments.microseconds(task.run_at) - moments.microseconds(task.started_at)) / 1e6
    return round(since_start - (task.duration or 0.0), 3)
