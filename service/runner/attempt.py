"""One attempt: calls the handler, and turns its end into a transition of the document."""

import json
import logging
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Final, NoReturn

import msgspec

from service.errors import Cancelled, Reject, Retry, Stopping
from service.observe import logs, scrubber
from service.observe.sentry import NO_ERRORS, Errors
from service.runner import outcomes
from service.runner.hearing import executing
from service.runner.outcomes import FINAL, BadResult, Transition
from service.runner.window import Window
from service.tasks.context import Context
from service.tasks.declare import TaskType
from service.tasks.document import NESTING_LIMIT, NULL, Task, is_nested_too_deeply

RESULT_LIMIT: Final = 256 * 1024
FORKED_AND_CAME_BACK: Final = 1

log = logging.getLogger(logs.OF_ONE_TASK)

_json = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"), check_circular=True)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


def run(task_type: TaskType, context: Context, task: Task, window: Window, errors: Errors = NO_ERRORS) -> Transition:
    """Calls the handler, and returns what becomes of the document."""
    transition = about(task_type, context, task, partial(_run, task_type, context, task, window, errors))
    return outcomes.with_news(transition, context.news)


def about(task_type: TaskType, context: Context, task: Task, attempt: Callable[[], Transition]) -> Transition:
    """What this thread logs during the attempt is about it. No @contextmanager: each task would pay for that."""
    outside, before = logs.about.set(context.facts), executing.set(context)
    if task_type.secret:
        context.secrets = task_type.secret_texts(task.args)
        scrubber.secrets.set(context.secrets)
    try:
        return attempt()
    finally:
        if task_type.secret:
            scrubber.secrets.set(())
        logs.about.reset(outside)
        executing.reset(before)


def _run(task_type: TaskType, context: Context, task: Task, window: Window, errors: Errors) -> Transition:
    started, begun = time.time(), time.perf_counter()
    try:
        with window:
            result = encode_result(_called(task_type, context, task))
    except BaseException as raised:
        window.close()  # again: an interruption may have come while it closed
        duration = time.perf_counter() - begun
        error = outcomes.checked(raised, interrupted_by=window.reason, limits=task_type.limits)
        if isinstance(error, Retry) and error.limit is not None and error.after is not None:
            context.pushed_back = error.limit, error.after
        return failed(error, task, started, duration, errors)
    return partial(outcomes.succeed, result, started, time.perf_counter() - begun)


def failed(error: BaseException, task: Task, started: float, duration: float, errors: Errors) -> Transition:
    event_id = errors.capture(error, tags=outcomes.tags(task))
    with suppress(Exception):  # of a handler or filter that a team has added to `logging`
        _log(error, task, event_id)
    return outcomes.after_error(error, started, duration, event_id)


def _called(task_type: TaskType, context: Context, task: Task) -> Any:
    runner = os.getpid()
    try:
        return task_type.run(context, task.args)
    finally:
        if os.getpid() != runner:
            _end_the_copy(task)


def _end_the_copy(task: Task) -> NoReturn:
    """A process that the handler has forked has come back from it: a second runner, without lock, claim or threads."""
    told = "the handler of %s forked, and its copy came back: it was ended. Let it end by itself, with os._exit()"
    try:
        log.warning(told, task.type, exc_info=sys.exc_info()[1])
    finally:
        os._exit(FORKED_AND_CAME_BACK)


def _log(error: BaseException, task: Task, event_id: str | None) -> None:
    """A failure with its traceback, which is kept nowhere else. What a handler or a client wanted is none."""
    if isinstance(error, Reject | Retry | Cancelled | Stopping):
        return
    level = logging.ERROR if isinstance(error, FINAL) or outcomes.is_last(task) else logging.WARNING
    log.log(level, "an attempt failed", exc_info=error, extra={"fields": {"event_id": event_id}})


def encode_result(value: Any) -> msgspec.Raw:
    if value is None:
        return NULL
    try:
        text = _encode(value) if type(value) in (str, bool) else _json.encode(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise BadResult(f"the result is not JSON-able: {error}") from error
    if len(text) > RESULT_LIMIT:
        raise BadResult(f"the result is {len(text):,} bytes of JSON; {RESULT_LIMIT:,} are allowed")
    if is_nested_too_deeply(value, text):
        raise BadResult(f"the result is nested more than {NESTING_LIMIT} levels deep")
    if b"{" in text and _decode(text) != value:  # the quick look: a member that is lost makes them differ
        _decode_distinct(text.decode())
    return msgspec.Raw(text)


def _distinct(members: list[tuple[str, Any]]) -> dict[str, Any]:
    """Raises BadResult if two have one name, as 1 and "1" have in JSON."""
    found: dict[str, Any] = {}
    for name, value in members:
        if name in found:
            raise BadResult(f"the result has two members that are both named {name!r} in JSON")
        found[name] = value
    return found


_decode_distinct = json.JSONDecoder(object_pairs_hook=_distinct).decode
