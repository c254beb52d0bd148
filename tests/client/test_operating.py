"""What operators do by the client, on a service: queues, pauses, runners, acts on many tasks."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sandbox_client import Client, Invalid, NotFound
from tests.servers import eventually


def paused(client: Client, name: str) -> dict[str, Any] | None:
    [found] = [queue["paused"] for queue in client.queues() if queue["queue"] == name]
    return found


def test_a_queue_is_paused_and_resumed(client: Client) -> None:
    until = datetime.now(UTC) + timedelta(hours=1)
    client.pause_queue("reports", reason="the archive is moved", until=until)
    try:
        waiting = client.create("echo", queue="reports")
        told = paused(client, "reports")
        assert told is not None and told["reason"] == "the archive is moved"
        assert datetime.fromisoformat(told["until"]) == until
        assert paused(client, "default") is None
        assert waiting.refresh().status == "queued"
    finally:
        client.resume_queue("reports")
    assert waiting.wait(timeout=60).status == "succeeded"
    assert paused(client, "reports") is None
    with pytest.raises(NotFound):
        client.pause_queue("nowhere")


def test_a_type_is_paused_and_resumed(client: Client) -> None:
    client.pause_type("echo")
    try:
        waiting = client.create("echo")
        assert [each["type"] for each in client.types() if each["paused"]] == ["echo"]
        assert client.create("fail", max_attempts=1).wait(timeout=60).status == "failed"
        assert waiting.refresh().status == "queued"
    finally:
        client.resume_type("echo")
    assert waiting.wait(timeout=60).status == "succeeded"


def test_the_runners_are_told(client: Client) -> None:
    eventually(client.runners)
    [first, *_] = client.runners()
    assert first["pid"] > 0 and "reports" in first["queues"]


def test_what_became_of_tasks_is_told(client: Client) -> None:
    client.create("echo").wait(timeout=60)

    def counted() -> bool:
        if "default/echo" not in client.history_series()["counts"]:
            return False
        now = datetime.now(UTC)
        told = client.history("default/echo", since=now - timedelta(hours=1), until=now + timedelta(minutes=1))
        return told["resolution"] == "minute" and sum(point["succeeded"] or 0 for point in told["points"]) > 0

    assert eventually(counted, 60, 0.2)
    assert client.stuck_types() == []
    with pytest.raises(Invalid):
        client.history("default/echo", since="yesterday")


def test_all_that_a_filter_admits_is_cancelled_and_run_again(client: Client) -> None:
    tasks = client.create_many([{"type": "echo", "args": {"message": "many"}, "delay": 3600}] * 3)
    only: Any = {"type": "echo", "q": "args.message=many"}
    assert client.count_for_cancel(**only) == (3, False)
    act = client.cancel_many(**only).wait(timeout=60)
    assert act.result == {"changed": 3, "left_out": {}}
    assert {task.refresh().status for task in tasks} == {"cancelled"}
    assert client.count_for_retry(**only, created_after=tasks[0].created_at).number == 3
    assert client.retry_many(**only).wait(timeout=60).result["changed"] == 3
    assert {task.refresh().wait(timeout=60).status for task in tasks} == {"succeeded"}
