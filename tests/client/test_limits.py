"""The calls of limits: each test runs on the service and on the fake, with both kinds of client."""

from collections.abc import Iterator
from typing import Any

import pytest

from sandbox_client import Client, Invalid, NotFound
from tests.client.scripted import LOST, Answer, NotedClock, serving


@pytest.fixture
def name(sandbox: Any) -> Iterator[str]:
    """Of a limit that is removed at the end."""
    yield "per-customer"
    for each in sandbox.limits():
        sandbox.remove_limit(each["limit"])


def test_a_limit_from_its_making_to_its_end(sandbox: Any, name: str) -> None:
    bounds = {"acme": {"concurrency": 10}, "zeta": {"rate": "5/second", "burst": 2}}
    made = sandbox.set_limit(name, key="args.customer", concurrency=2, rate="100/minute", burst=5, overrides=bounds)
    assert made == {
        "limit": name, "set": True, "key": "args.customer", "concurrency": 2, "rate": "100/minute", "burst": 5,
        "overrides": bounds, "waiting": 0, "keys": 0, "types": [],
    }  # fmt: skip
    assert sandbox.limit(name) == made and sandbox.limits() == [made]
    changed = sandbox.set_limit(name, concurrency=1)
    assert (changed["key"], changed["concurrency"], changed["rate"], changed["overrides"]) == (None, 1, None, {})
    assert sandbox.remove_limit(name) is None
    assert sandbox.limits() == []


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        ({}, "concurrency"),
        ({"concurrency": 0}, "concurrency"),
        ({"concurrency": 1, "burst": 2}, "burst"),
        ({"rate": "fast"}, "rate"),
        ({"concurrency": 1, "key": "customer"}, "key"),
        ({"concurrency": 1, "overrides": {"a": {"concurrency": 1}}}, "overrides"),
        ({"concurrency": 1, "key": "args.a", "overrides": {"a": {}}}, "concurrency"),
    ],
)
def test_a_wrong_limit_is_refused_with_the_field(sandbox: Any, name: str, rule: dict[str, Any], field: str) -> None:
    with pytest.raises(Invalid) as refused:
        sandbox.set_limit(name, **rule)
    assert refused.value.field == field
    assert sandbox.limits() == []


def test_what_is_not_there_is_not_found(sandbox: Any) -> None:
    for call in (sandbox.limit, sandbox.remove_limit):
        with pytest.raises(NotFound):
            call("nothing")


def test_a_removal_whose_answer_was_lost_is_done() -> None:
    gone = Answer(404, b'{"type": "about:blank", "title": "Not Found", "status": 404, "detail": "none"}')
    with serving() as server, Client(server.url, clock=NotedClock()) as sandbox:
        server.answers += [LOST, gone]
        sandbox.remove_limit("a")
        assert [asked.method for asked in server.asked] == ["DELETE", "DELETE"]
        with pytest.raises(NotFound):
            sandbox.remove_limit("a")
