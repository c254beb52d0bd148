"""Acts on many tasks: the types behind POST /tasks/retry and POST /tasks/cancel.

Handlers never speak to Redis. What carries such an act out is given to `types`.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Protocol

from service import Context, task
from service.tasks.declare import CANCEL_MANY, RETRY_MANY, TaskType, marked_type

ATTEMPTS: Final = 20  # each goes on where the one before was cut short


class Stage(Protocol):
    """How far an act is. `seen` of `total` tasks have been looked at; nobody may know the total."""

    changed: int
    left_out: dict[str, int]
    seen: int
    total: int | None


Act = Callable[[str, Mapping[str, Any]], Iterable[Stage]]  # of a task's UID, and its filter


def types(*, retry: Act, cancel: Act) -> list[TaskType]:
    @task(RETRY_MANY, max_attempts=ATTEMPTS)
    def retry_many(context: Context, filter: dict[str, Any]) -> dict[str, Any]:
        """Retries all tasks that a filter shows."""
        return _carried_out(context, retry(context.uid, filter))

    @task(CANCEL_MANY, max_attempts=ATTEMPTS)
    def cancel_many(context: Context, filter: dict[str, Any]) -> dict[str, Any]:
        """Cancels all tasks that a filter shows."""
        return _carried_out(context, cancel(context.uid, filter))

    return [found for each in (retry_many, cancel_many) if (found := marked_type(each))]


def _carried_out(context: Context, steps: Iterable[Stage]) -> dict[str, Any]:
    result: dict[str, Any] = {"changed": 0, "left_out": {}}
    for done in steps:
        result = {"changed": done.changed, "left_out": dict(done.left_out)}
        left_out = sum(done.left_out.values())
        fraction = min(1.0, done.seen / done.total) if done.total else None
        context.progress(fraction, f"{done.changed} changed, {left_out} left out")
    return result
