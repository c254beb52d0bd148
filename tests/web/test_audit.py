"""What the web tells the audit log."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from flask.testing import FlaskClient

from service.observe.audit import AuditLog
from service.web import token_file
from service.web.app import Web
from service.web.auth import Tokens
from tests.web.conftest import WebServer

ECHO = {"type": "echo", "args": {"message": "very private"}}


@pytest.fixture
def client(make_app: Callable[..., Web], tmp_path: Path) -> FlaskClient:
    return make_app(audit=AuditLog(tmp_path, "web")).test_client()


def lines(folder: Path) -> list[dict[str, Any]]:
    file = folder / "audit.log"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def test_it_says_who_created_what_from_where(make_app: Callable[..., Web], tmp_path: Path) -> None:
    secret = token_file.add(tmp_path / "tokens", "alice", "write")
    guarded = make_app(audit=AuditLog(tmp_path, "web"), tokens=Tokens(tmp_path / "tokens")).test_client()

    answer = guarded.post("/tasks", json=ECHO, headers={"Authorization": f"Bearer {secret}", "X-Request-ID": "r-1"})

    [line] = lines(tmp_path)
    assert line.pop("time") >= answer.json["created_at"][:-1]
    assert line.pop("process").startswith("web/")
    assert line == {
        "did": "created", "by": "alice", "from": "127.0.0.1", "request_id": "r-1",
        "uid": answer.json["uid"], "type": "echo",
    }  # fmt: skip


def test_without_tokens_and_over_a_unix_socket_nobody_is_named(client: FlaskClient, tmp_path: Path) -> None:
    client.post("/tasks", json=ECHO, environ_overrides={"REMOTE_ADDR": ""})
    assert [(line["by"], line["from"]) for line in lines(tmp_path)] == [(None, "")]


def test_a_batch_is_a_line_for_each_task(client: FlaskClient, tmp_path: Path) -> None:
    made = client.post("/tasks/batch", json=[ECHO, {"type": "sleep"}]).json["tasks"]
    assert [(line["did"], line["uid"], line["type"]) for line in lines(tmp_path)] == [
        ("created", made[0]["uid"], "echo"),
        ("created", made[1]["uid"], "sleep"),
    ]


def test_what_is_cancelled_and_requeued_is_told_with_the_request_that_did_it(
    client: FlaskClient, tmp_path: Path
) -> None:
    uid = client.post("/tasks", json=ECHO).json["uid"]
    client.delete(f"/tasks/{uid}", headers={"X-Request-ID": "r-2"})
    client.post(f"/tasks/{uid}/retry", headers={"X-Request-ID": "r-3"})
    found = [(line["did"], line["uid"], line["request_id"]) for line in lines(tmp_path)[1:]]
    assert found == [("cancelled", uid, "r-2"), ("requeued", uid, "r-3")]


def test_what_changed_nothing_is_not_told(client: FlaskClient, tmp_path: Path) -> None:
    uid = client.post("/tasks", json=ECHO).json["uid"]
    told = lines(tmp_path)

    assert client.post(f"/tasks/{uid}/retry").status_code == 409
    assert client.post("/tasks", json={"type": "unheard-of"}).status_code == 422
    assert client.delete(f"/tasks/{'0' * 64}").status_code == 404
    client.get(f"/tasks/{uid}")

    assert lines(tmp_path) == told


def test_a_request_that_is_sent_again_names_the_tasks_of_the_first(client: FlaskClient, tmp_path: Path) -> None:
    """The first may have ended between the task and its line."""
    again = {"Idempotency-Key": "k"}
    uid = client.post("/tasks", json=ECHO, headers=again).json["uid"]
    (tmp_path / "audit.log").write_text("")
    assert client.post("/tasks", json=ECHO, headers=again).status_code == 200
    assert [(line["did"], line["uid"]) for line in lines(tmp_path)] == [("repeated", uid)]


def test_arguments_and_keys_stay_out(client: FlaskClient, tmp_path: Path) -> None:
    client.post("/tasks", json=ECHO, headers={"Idempotency-Key": "my-key"})
    text = (tmp_path / "audit.log").read_text()
    assert not any(hidden in text for hidden in ("very private", "my-key"))


def test_a_log_that_cannot_be_written_hinders_nobody(make_app: Callable[..., Web], tmp_path: Path) -> None:
    client = make_app(audit=AuditLog(tmp_path / "missing", "web")).test_client()
    assert client.post("/tasks", json=ECHO).status_code == 201


def test_the_service_keeps_it_beside_its_other_logs(server: WebServer) -> None:
    request = Request(f"{server.url}/tasks", json.dumps(ECHO).encode(), {"Content-Type": "application/json"})
    with urlopen(request, timeout=10) as answer:
        uid = json.load(answer)["uid"]
    assert [(line["did"], line["uid"], line["from"]) for line in lines(server.home / "log")] == [
        ("created", uid, "127.0.0.1")
    ]
