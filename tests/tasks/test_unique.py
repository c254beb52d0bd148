"""Unique keys: how a type declares them, what they are made of, and what a change does to them."""

from datetime import date
from typing import Any

import msgspec
import pytest

from service.errors import InvalidTask, InvalidTaskType
from service.tasks import transitions, unique
from service.tasks.declare import TaskType, marked_type, task
from service.tasks.document import NULL, Claim, Task, TaskError, Unique, decode, encode, public
from service.tasks.unique import ASKS, LEAVES, TAKES, Rule

NOW = "2026-03-01T12:00:00.000000Z"


def declared(rule: Any = None, **options: Any) -> TaskType:
    @task("sync", unique=rule, **options)
    def sync(context: Any, customer: str, day: date = date(2026, 5, 1), tags: set[str] = frozenset()) -> None: ...  # type: ignore[assignment]

    found = marked_type(sync)
    assert found is not None
    return found


def key(rule: Any, **args: Any) -> str:
    found = declared(rule).unique_key(msgspec.Raw(msgspec.json.encode(args)), None)
    assert found is not None
    return found.key


def test_a_type_without_a_rule_has_no_key() -> None:
    assert declared().unique_key(msgspec.Raw(b'{"customer":"a"}'), None) is None


def test_a_key_is_a_text_or_made_of_arguments_and_their_defaults() -> None:
    assert key({"key": "all"}, customer="acme") == "all"
    assert key({"key": {"args": ["customer"]}}, customer="acme") == '{"customer":"acme"}'
    of_day = {"key": {"args": ["customer", "day"]}}
    assert key(of_day, customer="acme") == key(of_day, customer="acme", day="2026-05-01")
    of_tags = {"key": {"args": ["tags"]}}
    assert key(of_tags, customer="a", tags=["x", "y", "z"]) == key(of_tags, customer="b", tags=["z", "y", "x"])


def test_a_long_value_is_a_key_by_its_hash() -> None:
    long = key({"key": {"args": ["customer"]}}, customer="x" * 500)
    assert len(long) == 71 and long.startswith("sha256:")
    assert long != key({"key": {"args": ["customer"]}}, customer="x" * 501)


def test_a_client_may_bring_another_rule() -> None:
    found = declared({"key": "all"}).unique_key(msgspec.Raw(b'{"customer":"a"}'), Rule("mine", "started", "replace"))
    assert found == Unique("mine", "started", "replace")
    with pytest.raises(InvalidTask, match="unique: key names the argument 'no'"):
        declared().unique_key(msgspec.Raw(b'{"customer":"a"}'), Rule(unique.OfArguments(("no",))))


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ({}, "missing required field `key`"),
        ({"key": {"args": ["nothing"]}}, "key names the argument 'nothing', which the type does not have"),
        ({"key": {"args": ["customer"]}}, "key names 'customer', which is a secret"),
        ({"key": "k", "until": "tomorrow"}, "tomorrow"),
        ({"key": "k", "on_conflict": "keep_last", "until": "started"}, "keep_last waits for the end of a task"),
        ({"key": "k", "colour": "red"}, "colour"),
    ],
)
def test_a_type_with_a_wrong_rule_is_refused(rule: Any, says: str) -> None:
    with pytest.raises(InvalidTaskType, match=f"sync: unique: .*{says}"):
        declared(rule, secret="customer")


def held(until: str = "finished", **fields: Any) -> Task:
    wanted = Unique("k", until, "return")
    known = {"uid": "u" * 64, "type": "sync", "queue": "default", "status": "queued", "created_at": NOW}
    return Task(**(known | {"unique": wanted} | fields))


def test_what_a_change_does_to_the_key() -> None:
    for until in ("finished", "started"):
        waiting = held(until)
        running = transitions.claimed(waiting, Claim("c", "t", "s", "e"))
        error = TaskError("E", "m")
        assert unique.effect(waiting, running) == (LEAVES if until == "started" else "")
        for same in (transitions.promoted(waiting), transitions.postponed(waiting, NOW)):
            assert unique.effect(waiting, same) == ""
        for same in (transitions.handed_back(running, ran=True), transitions.retried(running, error, NOW, 0.0, NOW)):
            assert unique.effect(running, same) == ""
        ends = (
            transitions.succeeded(running, NULL, NOW, NOW, 0.0),
            transitions.failed(running, error, NOW, NOW, 0.0),
            transitions.cancelled(running, NOW),
            transitions.crashed_for_good(running, error, NOW),
        )
        assert {unique.effect(running, end) for end in ends} == {LEAVES}
        failed = ends[1]
        assert unique.effect(failed, transitions.requeued(failed)) == TAKES


@pytest.mark.parametrize("rule", ["replace", "keep_last"])
def test_a_claim_asks_whether_a_task_waits_that_may_wait_behind_another(rule: str) -> None:
    waiting = held(unique=Unique("k", "finished", rule))
    assert unique.effect(waiting, transitions.claimed(waiting, Claim("c", "t", "s", "e"))) == ASKS
    assert unique.effect(waiting, transitions.promoted(waiting)) == ""


def test_a_task_has_started_from_its_first_claim_on() -> None:
    waiting = held()
    running = transitions.claimed(waiting, Claim("c", "t", "s", "e"))
    assert not unique.has_started(waiting)
    assert unique.has_started(running)
    assert unique.has_started(transitions.retried(running, TaskError("E", "m"), NOW, 0.0, NOW))
    assert not unique.has_started(transitions.handed_back(running, ran=False))


def test_the_document_keeps_the_key_and_names_no_parent_unless_there_is_one() -> None:
    document = held()
    assert decode(encode(document)) == document
    assert public(document)["parent"] is None
    assert b"parent" not in encode(document) and b"unique" not in encode(held(unique=None))


def test_a_key_belongs_to_its_type() -> None:
    assert unique.lock("sync", Unique("k", "finished", "return")) != unique.lock(
        "mail", Unique("k", "finished", "return")
    )
