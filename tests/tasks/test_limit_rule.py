"""What a limit says, and which place a task has."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
import pytest

from service.errors import InvalidTask
from service.tasks import limit_rule
from service.tasks.context import Context
from service.tasks.declare import TaskType, marked_type, task
from service.tasks.limit_rule import Bounds, LimitRule


@task("order")
def order(context: Any, customer: str = "nobody", lines: list[int] | None = None, more: Any = None) -> None: ...


ORDER: TaskType = order.__sandbox_task__  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("key", "args", "value"),
    [
        (None, {}, ""),
        ("args.customer", {"customer": "acme"}, "acme"),
        ("args.customer", {}, "nobody"),
        ("args.lines", {"lines": [1, 2]}, "[1,2]"),
        ("args.lines", {}, "null"),
        ("args.more", {"more": {"b": 1, "a": 2}}, '{"a":2,"b":1}'),
        ("args.more.region", {"more": {"region": "north"}}, "north"),
        ("args.more.region", {"more": "north"}, "null"),
        ("args.more.region.name", {}, "null"),
        ("args.nothing", {}, "null"),
        ("args.more", {"more": 5}, "5"),
    ],
)
def test_the_value_of_a_key(key: str | None, args: dict[str, Any], value: str) -> None:
    assert limit_rule.value(key, ORDER, msgspec.Raw(msgspec.json.encode(args))) == value


def value_of(kind: Any, text: str) -> str:
    """Of an argument of that kind, as a client has written it."""

    @task("t", limits=("l",))
    def handler(context: Context, customer: kind) -> None: ...

    task_type = marked_type(handler)
    assert task_type is not None
    args = task_type.accept(msgspec.Raw(b'{"customer":%s}' % text.encode()))
    return limit_rule.value("args.customer", task_type, args)


@pytest.mark.parametrize(
    ("kind", "one", "other"),
    [
        (UUID, '"a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"', '"A0EEBC999C0B4EF8BB6D6BB9BD380A11"'),
        (datetime, '"2026-01-01T00:00:00Z"', '"2026-01-01 00:00:00.0Z"'),
        (datetime, '"2026-01-01T00:00:00Z"', '"2026-01-01T01:00:00+01:00"'),
        (Decimal, '"100"', '"100.00"'),
        (Decimal, '"0"', '"-0E+5"'),
        (Decimal, '"1E+999999"', '"10E+999998"'),
        (list[Any], "[7]", "[7.0]"),
        (
            dict[str, tuple[datetime, float]],
            '{"a":["2026-01-01T00:00:00Z",1]}',
            '{"a":["2026-01-01T02:00:00+02:00",1.0]}',
        ),
        (set[int], "[3,1]", "[1,3]"),
        (timedelta, '"PT60S"', '"PT1M"'),
        (float, "7", "7.0"),
        (Any, "7", "7.0"),
    ],
)
def test_one_value_is_one_key_however_it_is_written(kind: Any, one: str, other: str) -> None:
    assert value_of(kind, one) == value_of(kind, other)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Decimal, '"100.00"', "100"),
        (Decimal, '"1E+999999999"', "1E+999999999"),
        (Decimal, '"NaN"', "NaN"),
        (Decimal, '"sNaN"', "sNaN"),
        (Decimal, '"-Infinity"', "-Infinity"),
        (Decimal, f'"1.{"0" * 40}1"', f"1.{'0' * 40}1"),
        (datetime, '"0001-01-01T00:00:00+01:00"', "0001-01-01T00:00:00+01:00"),
        (datetime, '"9999-12-31T23:59:59-01:00"', "9999-12-31T23:59:59-01:00"),
        (float, "1e308", str(int(1e308))),
    ],
)
def test_the_farthest_values_have_a_key_too(kind: Any, text: str, value: str) -> None:
    assert value_of(kind, text) == value


@dataclass
class Checked:
    region: str

    def __post_init__(self) -> None:
        assert self.region in {"north", "south"}


def test_a_waiting_task_that_the_code_refuses_now_has_its_place_all_the_same() -> None:
    """Otherwise whoever claims it could claim no other one either."""

    @task("t", limits=("l",))
    def handler(context: Context, order: Checked) -> None: ...

    task_type = marked_type(handler)
    assert task_type is not None
    args = msgspec.Raw(b'{"order":{"region":"west"}}')
    assert limit_rule.value("args.order.region", task_type, args) == "west"


def test_a_place_tells_apart_limits_keys_and_values() -> None:
    places = {
        limit_rule.place(name, key, value)
        for name in ("one", "other")
        for key in (None, "args.customer", "args.more")
        for value in ("", "acme", "acme:b", "x" * 10_000)
    }
    assert len(places) == 24
    assert all(place.count(":") == 2 and " " not in place and len(place) < 60 for place in places)


def test_limits_of_one_key_agree_on_the_partition() -> None:
    homes = {value: limit_rule.partition("args.customer", value, 4) for value in map(str, range(40))}
    assert set(homes.values()) == {0, 1, 2, 3}
    assert limit_rule.partition(None, "", 4) == limit_rule.partition(None, "", 4)


def test_the_numbers_for_the_scripts() -> None:
    assert Bounds(concurrency=3).numbers() == "3 - 1"
    assert Bounds(rate="100/minute", burst=5).numbers() == "- 600000.000 5"
    assert Bounds(rate="7/second").numbers() == "- 142857.143 1"


@pytest.mark.parametrize(
    "rule",
    [
        LimitRule(),
        LimitRule(concurrency=1, burst=2),
        LimitRule(concurrency=1, overrides={"a": Bounds(1)}),
        LimitRule(key="args.customer", concurrency=1, overrides={"a": Bounds()}),
    ],
)
def test_a_rule_that_bounds_nothing_or_says_what_does_not_fit_is_refused(rule: LimitRule) -> None:
    with pytest.raises(InvalidTask):
        rule.check()
