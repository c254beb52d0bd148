"""GET /queues; pause and resume of queues and types."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from service.observe.audit import AuditLog
from service.store import Store
from service.tasks import moments
from service.web import token_file
from service.web.app import Web
from service.web.auth import Tokens

TOMORROW = moments.stamp_exactly((int(time.time()) + 86400) * 1_000_000)


def queues(client: FlaskClient) -> dict[str, Any]:
    return {queue["queue"]: queue for queue in client.get("/queues").json["queues"]}


def test_the_queues_are_listed_in_their_order_with_what_waits(client: FlaskClient) -> None:
    client.post("/tasks/batch", json=[{"type": "echo"}, {"type": "echo", "delay": 60}, {"type": "echo"}])
    listed = client.get("/queues").json["queues"]
    assert [queue["queue"] for queue in listed] == ["default", "reports"]
    oldest = listed[0].pop("oldest")
    assert 0 <= oldest < 60
    assert listed[0] == {"queue": "default", "waiting": 2, "running": 0, "scheduled": 1, "paused": None}
    assert listed[1]["oldest"] is None


def test_a_queue_is_paused_and_resumed(client: FlaskClient, store: Store) -> None:
    client.post("/tasks", json={"type": "echo"})
    answer = client.post("/queues/default/pause", json={"reason": "the archive is moved", "until": TOMORROW})

    paused = answer.json["paused"]
    assert (answer.status_code, answer.json["queue"], answer.json["waiting"]) == (200, "default", 1)
    assert (paused["reason"], paused["until"], paused["by"]) == (
        "the archive is moved", TOMORROW, None,
    )  # fmt: skip
    assert queues(client)["default"]["paused"] == paused and queues(client)["reports"]["paused"] is None
    assert store.queues.fetch(0, ["default"], "a", 1) == []

    answer = client.post("/queues/default/resume")
    assert (answer.status_code, answer.json["paused"]) == (200, None)
    assert len(store.queues.fetch(0, ["default"], "a", 1)) == 1


def test_a_type_is_paused_and_resumed(client: FlaskClient) -> None:
    answer = client.post("/types/echo/pause")
    assert (answer.status_code, answer.json["type"], answer.json["paused"]["reason"]) == (200, "echo", None)
    types = {each["type"]: each["paused"] for each in client.get("/types").json["types"]}
    assert types["echo"] == answer.json["paused"] and types["sleep"] is None
    assert client.post("/types/echo/resume").json["paused"] is None
    assert client.post("/types/echo/resume").json["paused"] is None  # it is so already


def test_what_is_not_there_cannot_be_paused(client: FlaskClient) -> None:
    for path in ("/queues/defualt/pause", "/queues/defualt/resume", "/types/ecoh/pause", "/types/ecoh/resume"):
        answer = client.post(path)
        assert (answer.status_code, answer.content_type) == (404, "application/problem+json"), path
    assert queues(client).keys() == {"default", "reports"}


def test_a_queue_that_is_no_longer_served_and_has_tasks_can_be_paused(
    client: FlaskClient, make_app: Callable[..., Web]
) -> None:
    client.post("/tasks", json={"type": "echo", "queue": "reports"})
    fewer = make_app(queues=("default",)).test_client()
    assert list(queues(fewer)) == ["default", "reports"]
    assert fewer.post("/queues/reports/pause").status_code == 200


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"until": "2001-01-01T00:00:00Z"}, "until"),
        ({"until": "2990-01-01T00:00:00Z"}, "until"),
        ({"until": TOMORROW.removesuffix("Z")}, "until"),
        ({"until": 5}, "until"),
        ({"reason": "x" * 1001}, "reason"),
        ({"why": "x"}, "why"),
    ],
)
def test_a_wrong_pause_is_refused_with_the_field(client: FlaskClient, body: Any, field: str) -> None:
    answer = client.post("/queues/default/pause", json=body)
    assert (answer.status_code, answer.json.get("field")) == (422, field)
    assert queues(client)["default"]["paused"] is None


def test_who_may_only_read_sees_pauses_and_makes_none(make_app: Callable[..., Web], tmp_path: Path) -> None:
    secrets = {scope: token_file.add(tmp_path / "tokens", scope, scope) for scope in ("read", "write")}
    client = make_app(tokens=Tokens(tmp_path / "tokens"), audit=AuditLog(tmp_path, "web")).test_client()
    reads, writes = ({"Authorization": f"Bearer {secrets[scope]}"} for scope in ("read", "write"))

    for path in ("/queues/default/pause", "/queues/default/resume", "/types/echo/pause", "/types/echo/resume"):
        assert client.post(path, headers=reads).status_code == 403, path
    client.post("/queues/default/pause", headers=writes, json={"reason": "a check"})
    client.post("/types/echo/pause", headers=writes)
    client.post("/queues/default/resume", headers=writes)

    assert client.get("/queues", headers=reads).status_code == 200
    lines = [json.loads(line) for line in (tmp_path / "audit.log").read_text().splitlines()]
    assert [(line["did"], line.get("queue"), line.get("type"), line["by"]) for line in lines] == [
        ("paused", "default", None, "write"), ("paused", None, "echo", "write"), ("resumed", "default", None, "write"),
    ]  # fmt: skip
    assert lines[0]["reason"] == "a check"


def test_a_task_keeps_the_priority_that_it_was_given(client: FlaskClient) -> None:
    for priority in ("low", "high"):
        assert client.post("/tasks", json={"type": "echo", "priority": priority}).json["priority"] == priority
    assert client.post("/tasks", json={"type": "echo"}).json["priority"] == "normal"
    assert client.post("/tasks", json={"type": "urgent"}).json["priority"] == "high"  # as its type says
    assert client.post("/tasks", json={"type": "urgent", "priority": "normal"}).json["priority"] == "normal"
    assert client.post("/tasks", json={"type": "echo", "priority": "highest"}).status_code == 422


def test_the_same_key_with_another_priority_is_another_request(client: FlaskClient) -> None:
    headers = {"Idempotency-Key": "one"}
    assert client.post("/tasks", json={"type": "echo", "priority": "low"}, headers=headers).status_code == 201
    assert client.post("/tasks", json={"type": "echo", "priority": "high"}, headers=headers).status_code == 422
