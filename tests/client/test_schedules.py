"""The calls of schedules: each test runs on the service and on the fake, with both kinds of client."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from sandbox_client import Invalid, NotFound


@pytest.fixture
def name(sandbox: Any) -> Iterator[str]:
    """Of a schedule that is removed at the end."""
    yield "often"
    for each in sandbox.schedules():
        sandbox.delete_schedule(each["name"])


def test_a_schedule_from_its_making_to_its_end(sandbox: Any, name: str) -> None:
    made = sandbox.put_schedule(name, "echo", {"message": "hi"}, every=timedelta(days=1), catch_up=60, queue="reports")
    assert (made["name"], made["type"], made["every"], made["catch_up"]) == (name, "echo", 86400, 60)
    assert sandbox.schedule(name) == made and sandbox.schedules() == [made]
    assert sandbox.pause_schedule(name)["paused"] is True
    assert sandbox.resume_schedule(name)["paused"] is False
    changed = sandbox.put_schedule(name, "echo", cron="@daily", timezone="Europe/Prague", paused=True)
    assert (changed["cron"], changed["every"], changed["queue"], changed["paused"]) == ("@daily", None, "default", True)
    assert changed["created_at"] == made["created_at"]
    sandbox.delete_schedule(name)
    assert sandbox.schedules() == []


def test_it_is_run_beside_its_times(sandbox: Any, name: str) -> None:
    sandbox.put_schedule(name, "echo", {"message": "hi"}, cron="0 3 * * *")
    task = sandbox.run_schedule(name, idempotency_key=None)
    assert (task.schedule, task.scheduled_for) == (name, None)
    assert task.wait(timeout=60).result == "hi"
    assert task.uid in [each.uid for each in sandbox.tasks(schedule=name)]
    assert [each.uid for each in sandbox.tasks(schedule="nothing")] == []


def test_what_cannot_be_is_refused(sandbox: Any, name: str) -> None:
    for call in (sandbox.schedule, sandbox.delete_schedule, sandbox.run_schedule, sandbox.pause_schedule):
        with pytest.raises(NotFound):
            call("nothing")
    with pytest.raises(Invalid) as refused:
        sandbox.put_schedule(name, "echo")
    assert refused.value.field == "cron"
    with pytest.raises(Invalid) as refused:
        sandbox.put_schedule(name, "nothing", every=5)
    assert refused.value.field == "type"
