"""What is wrong with a body is told in words: the field, the fault, what is allowed, and how that looks."""

import json
from typing import Any

import msgspec
import pytest
from flask.testing import FlaskClient

from service.tasks.limit_rule import LimitRule
from service.web.api import body_faults, listing, pausing, schedule_calls, workspace_calls
from service.web.api.intake import NewTask
from service.web.problem import Problem

COUNTS = "a whole number from 1 to 1000000, as in 3"
MOMENTS = "a moment with its offset from UTC, as in 2026-12-24T18:00:00+01:00"


def problem(kind: Any, sent: Any) -> Problem:
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.json.Decoder(kind).decode(json.dumps(sent))
    return body_faults.problem(refused.value, kind)


@pytest.mark.parametrize(
    ("kind", "sent", "words"),
    [
        (
            LimitRule,
            {"rate": "5"},
            "rate: this text has another form; allowed is null or a text (as in 100/minute; per second, minute, hour "
            "or day)",
        ),
        (
            LimitRule,
            {"key": "customer"},
            "key: this text has another form; allowed is null or a text (as in args.customer; none: one place for all)",
        ),
        (LimitRule, {"concurrency": 0}, f"concurrency: the number is too small; allowed is null or {COUNTS}"),
        (LimitRule, {"burst": 10**7}, f"burst: the number is too large; allowed is null or {COUNTS} (so many may"),
        (LimitRule, {"overrides": {"a": {"concurrency": "x"}}}, "overrides.concurrency: a text was sent; allowed is"),
        (LimitRule, {"overrides": {"a" * 501: {}}}, "overrides: the text is too long: a name in it; allowed is a text"),
        (LimitRule, [], "the body: a list was sent; allowed is an object with key, concurrency, rate, burst"),
        (NewTask, {}, "type: it is missing; it is a text"),
        (NewTask, {"type": "a", "colour": 1}, "colour: there is no such field here; these are: type, args, queue"),
        (NewTask, {"type": "a", "priority": "urgent"}, "priority: 'urgent' is none of them; allowed is one of high,"),
        (NewTask, {"type": "a", "priority": "x" * 99}, "priority: this value does not fit; allowed is one of high,"),
        (NewTask, {"type": "a", "run_at": "x"}, f"run_at: this is no moment; allowed is {MOMENTS}"),
        (
            NewTask,
            {"type": "a", "run_at": "2026-12-24T18:00:00"},
            f"run_at: it lacks its offset from UTC; allowed is {MOMENTS}",
        ),
        (NewTask, {"type": "a", "timeout": 0}, "timeout: the number is too small; allowed is a number above 0, up to"),
        (
            NewTask,
            {"type": "a", "unique": {"key": "a", "on_conflict": "skip"}},
            "unique.on_conflict: 'skip' is none of them; allowed is one of keep_last, reject, replace, return",
        ),
        (
            NewTask,
            {"type": "a", "unique": {"key": {"args": []}}},
            "unique.key.args: it has too few members; allowed is a list of 1 to 20 members, each of them a text",
        ),
        (NewTask, {"type": "a", "unique": {"key": 5}}, "unique.key: a number was sent; allowed is a text of 1 to 200"),
        (list[NewTask], [{"type": "a"}, {"type": "a", "delay": -1}], "tasks[1].delay: the number is too small"),
        (schedule_calls.NewSchedule, {"type": "a", "cron": 5}, "cron: a number was sent; allowed is null or a text of"),
        (schedule_calls.NewSchedule, {"type": "a", "every": 0}, "every: the number is too small; allowed is null or a"),
        (pausing.NewPause, {"reason": "x" * 2000}, "reason: the text is too long; allowed is null or a text of at"),
        (listing.Wanted, {"dry_run": "yes"}, "dry_run: a text was sent; allowed is true or false"),
        (workspace_calls.Granting, {"login": "-x"}, "login: this text has another form; allowed is a text (an account"),
        (workspace_calls.NewWorkspace, {}, "email: it is missing; it is a text"),
        (msgspec.defstruct("X", [("n", msgspec.Raw), ("m", bytes)]), {"n": 1, "m": 5}, "m: a number was sent; allowed"),
        (dict[str, float] | None, {"a": "x"}, "the body: a text was sent; allowed is a number"),
        (list[int], ["x"], "tasks[0]: a text was sent; allowed is a whole number, as in 3"),
    ],
)
def test_a_fault_is_told_in_words(kind: Any, sent: Any, words: str) -> None:
    told = problem(kind, sent)
    assert told.status == 422 and told.detail.startswith(words), told.detail
    assert "`" not in told.detail and "Expected" not in told.detail


def test_the_field_and_the_place_in_a_batch_are_members_of_the_problem(client: FlaskClient) -> None:
    answer = client.post("/tasks/batch", json=[{"type": "echo"}, {"type": "echo", "unique": {"key": 5}}])
    assert (answer.status_code, answer.json["field"], answer.json["index"]) == (422, "unique", 1)
    assert answer.json["detail"].startswith("tasks[1].unique.key: a number was sent; allowed is a text")
