"""The types of acts on many tasks: what their handlers make of the steps that they are given."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from service.builtin import bulk
from service.tasks.context import Context
from service.tasks.document import QUEUED, Task


@dataclass
class FakeStep:
    changed: int
    seen: int
    total: int | None
    left_out: dict[str, int] = field(default_factory=dict)


def run(name: str, steps: Iterable[FakeStep]) -> tuple[Any, Context, list[Any]]:
    asked: list[Any] = []

    def act(kind: str) -> bulk.Act:
        def carry_out(uid: str, filter: Mapping[str, Any]) -> Iterable[bulk.Stage]:
            asked.append((kind, uid, filter))
            return steps

        return carry_out

    types = {each.name: each for each in bulk.types(retry=act("retry"), cancel=act("cancel"))}
    task = Task(uid="0" * 64, type=name, queue="default", status=QUEUED, created_at="")
    context = Context(task)
    return types[name].run(context, msgspec.Raw(b'{"filter": {"status": ["failed"]}}')), context, asked


def test_the_result_says_how_many_were_changed_and_left_out() -> None:
    result, context, asked = run("sandbox.retry", [FakeStep(0, 0, 30), FakeStep(7, 10, 30, {"running": 3})])
    assert result == {"changed": 7, "left_out": {"running": 3}}
    assert asked == [("retry", "0" * 64, {"status": ["failed"]})]
    assert context.news is not None
    assert json.loads(bytes(context.news)) == {"fraction": 10 / 30, "message": "7 changed, 3 left out"}


def test_progress_without_a_total_has_no_fraction() -> None:
    for total in (None, 0):
        _, context, asked = run("sandbox.cancel", [FakeStep(1, 1, total)])
        assert context.news is not None
        assert json.loads(bytes(context.news))["fraction"] is None
        assert asked[0][0] == "cancel"
