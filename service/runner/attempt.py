"""One attempt: the handler's context, its call, and what its end means for the document."""

import json
import logging
import time
from functools import partial
from typing import Any, Final

import msgspec

from service.observe import logs
from service.observe.sentry import NO_ERRORS, Errors
from service.runner.outcomes import BadResult, Transition, about, meant, succeed, transition_of
from service.tasks.context import Context
from service.tasks.declare import TaskType
from service.tasks.document import NESTING_LIMIT, NULL, Task, is_nested_too_deeply

RESULT_LIMIT: Final = 256 * 1024


_json = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":"), check_circular=True)
_encode = msgspec.json.Encoder().encode
log = logging.getLogger("sandbox.task")


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
        error = meant(raised)
        duration = time.perf_counter() - begun
        return transition_of(error, context, started, duration, errors.capture(error, tags=about(task)))
    duration = time.perf_counter() - begun
    return partial(succeed, result, started, duration)


class Window:
    """The time during which an attempt may be interrupted."""

    def __init__(self) -> None:
        self.open = False

    def close(self) -> None:
        """Takes back an interruption that has not arrived."""


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
    return msgspec.Raw(text)
