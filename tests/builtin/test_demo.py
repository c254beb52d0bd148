"""The types to try the service with do what their descriptions say."""

from typing import Any

import msgspec
import pytest

from service.tasks.context import Context
from service.tasks.document import QUEUED, Task
from service.tasks.registry import Registry

TYPES = Registry.load(["service.builtin.demo"])


def run(name: str, attempt: int = 1, **args: Any) -> Any:
    task_type = TYPES.get(name)
    assert task_type is not None
    task = Task(uid="0" * 64, type=name, queue="default", status=QUEUED, created_at="", attempt=attempt)
    return task_type.run(Context(task), msgspec.Raw(msgspec.json.encode(args)))


def test_echo_returns_its_message() -> None:
    assert run("echo", message={"hello": [1, 2]}) == {"hello": [1, 2]}


def test_sleep_returns_how_long_it_took() -> None:
    assert run("sleep", seconds=0.01) == 0.01


def test_fail_fails_with_its_message() -> None:
    with pytest.raises(RuntimeError, match="on purpose"):
        run("fail", message="on purpose")


def test_flaky_succeeds_after_so_many_failures() -> None:
    for attempt in (1, 2):
        with pytest.raises(RuntimeError, match=f"attempt {attempt} of 2 that fail"):
            run("flaky", attempt=attempt, failures=2)
    assert run("flaky", attempt=3, failures=2) == 3
