"""POST /tasks/retry and POST /tasks/cancel, and the filters of GET /tasks."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from service.observe.audit import AuditLog
from service.store import Store
from service.tasks.document import TaskError
from service.web import token_file
from service.web.app import Web
from service.web.auth import Tokens
from tests.web.test_audit import lines

Finish = Callable[..., None]


def create(client: FlaskClient, **fields: Any) -> str:
    return str(client.post("/tasks", json={"type": "echo"} | fields).json["uid"])


def uids(client: FlaskClient, query: str) -> list[str]:
    answer = client.get(f"/tasks?{query}")
    assert answer.status_code == 200, answer.json
    return [task["uid"] for task in answer.json["tasks"]]


@pytest.mark.parametrize(("call", "type"), [("retry", "sandbox.retry"), ("cancel", "sandbox.cancel")])
def test_the_answer_is_the_task_that_does_it(client: FlaskClient, store: Store, call: str, type: str) -> None:
    answer = client.post(f"/tasks/{call}", json={"type": "echo", "status": ["failed", "queued"], "error": "KeyError"})
    task = answer.json
    assert (answer.status_code, answer.headers["Location"]) == (202, f"/tasks/{task['uid']}")
    assert (task["type"], task["status"], task["queue"]) == (type, "queued", "default")
    assert task["args"] == {"filter": {"type": ["echo"], "status": ["failed", "queued"], "error": "KeyError"}}
    assert client.get(answer.headers["Location"]).json == task


def test_it_waits_before_all_that_it_may_have_to_cancel(client: FlaskClient, store: Store) -> None:
    create(client)
    uid = client.post("/tasks/cancel", json={"status": "queued"}).json["uid"]
    assert [entry.uid for entry in store.queues.fetch(0, ["default"], "a", 1)] == [uid]


def test_it_waits_in_a_queue_that_is_not_paused(client: FlaskClient, store: Store) -> None:
    client.post("/queues/default/pause")
    task = client.post("/tasks/cancel", json={"queue": "default"}).json
    assert task["queue"] == "reports"
    assert [entry.uid for entry in store.queues.fetch(0, ["default", "reports"], "a", 1)] == [task["uid"]]
    client.post("/queues/reports/pause")
    assert client.post("/tasks/cancel", json={"queue": "default"}).status_code == 409


def test_what_is_counted_is_what_will_be_changed(client: FlaskClient) -> None:
    create(client)
    client.post("/tasks/cancel", json={"type": "fail"})
    assert client.post("/tasks/cancel", json={"status": "queued", "dry_run": True}).json["matched"] == 1


def test_a_dry_run_counts_and_changes_nothing(client: FlaskClient, finish: Finish) -> None:
    for number in range(5):
        uid = create(client)
        if number < 3:
            finish(uid, TaskError(type="KeyError", message=""))
    asked = {"status": "failed", "dry_run": True}
    answer = client.post("/tasks/retry", json=asked)
    assert (answer.status_code, answer.json) == (200, {"matched": 3, "more": False})
    assert client.post("/tasks/retry", json=asked | {"error": "OSError"}).json["matched"] == 0
    assert client.post("/tasks/cancel", json={"type": "echo", "dry_run": True}).json["matched"] == 2
    assert len(uids(client, "limit=100")) == 5


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, None),
        ({"dry_run": True}, None),
        ({"status": "gone"}, "status"),
        ({"status": ["failed", "gone"]}, "status"),
        ({"stauts": "failed"}, "stauts"),
        ({"type": 7}, "type"),
        ({"type": []}, "type"),
        ({"created_after": "yesterday"}, "created_after"),
        ({"created_before": "2026-01-01T00:00:00"}, "created_before"),
        ({"q": "abc"}, "q"),
        ({"dry_run": "yes", "type": "a"}, "dry_run"),
    ],
)
def test_a_wrong_filter_is_refused_with_its_name(client: FlaskClient, body: Any, field: str | None) -> None:
    for call in ("retry", "cancel"):
        answer = client.post(f"/tasks/{call}", json=body)
        assert (answer.status_code, answer.json.get("field")) == (422, field), answer.json
    assert uids(client, "limit=100") == []


def test_a_body_that_is_no_json_is_refused(client: FlaskClient) -> None:
    assert client.post("/tasks/retry", data=b"{", content_type="application/json").status_code == 400
    assert client.post("/tasks/retry", data=b"{}").status_code == 415
    assert client.get("/tasks/retry").status_code == 404


def test_who_may_only_read_acts_on_nothing(make_app: Callable[..., Web], tmp_path: Path) -> None:
    secrets = {scope: token_file.add(tmp_path / "tokens", scope, scope) for scope in ("read", "write")}
    client = make_app(tokens=Tokens(tmp_path / "tokens")).test_client()

    def status(secret: str, call: str, body: Any = None) -> int:
        method = client.get if body is None else client.post
        return method(call, json=body, headers={"Authorization": f"Bearer {secret}"}).status_code

    body = {"status": "failed"}
    for call in ("/tasks/retry", "/tasks/cancel"):
        assert (status(secrets["read"], call, body), status(secrets["write"], call, body)) == (403, 202)
    for call in ("/runners", "/metrics", "/metrics/history"):
        assert (status(secrets["read"], call), client.get(call).status_code) == (200, 401)


def test_the_audit_log_says_who_asked_for_what(make_app: Callable[..., Web], tmp_path: Path) -> None:
    secret = token_file.add(tmp_path / "tokens", "alice", "write")
    client = make_app(audit=AuditLog(tmp_path, "web"), tokens=Tokens(tmp_path / "tokens")).test_client()
    headers = {"Authorization": f"Bearer {secret}", "X-Request-ID": "r-1"}
    asked = {"status": "failed", "q": "args.message=very private"}
    uid = client.post("/tasks/retry", json=asked, headers=headers).json["uid"]
    [line] = lines(tmp_path)
    told = {name: line[name] for name in ("did", "by", "uid", "filter", "request_id")}
    assert told == {
        "did": "sandbox.retry", "by": "alice", "uid": uid, "request_id": "r-1",
        "filter": {"status": ["failed"], "q": "args.message=…"},
    }  # fmt: skip


def test_nobody_creates_such_a_task_otherwise(client: FlaskClient) -> None:
    answer = client.post("/tasks", json={"type": "sandbox.cancel", "args": {"filter": {}}})
    assert (answer.status_code, answer.json["field"]) == (422, "type")


# --- GET /tasks ----------------------------------------------------------------------------------


def test_types_queues_and_statuses_may_be_given_several_times_or_with_commas(
    client: FlaskClient, finish: Finish
) -> None:
    echo, sleep, other = create(client), create(client, type="sleep"), create(client, queue="reports")
    finish(sleep)
    assert uids(client, "type=echo&type=sleep&queue=default") == [sleep, echo]
    assert uids(client, "type=echo,sleep&queue=default") == [sleep, echo]
    assert uids(client, "status=queued&status=failed,cancelled") == [other, echo]
    answer = client.get("/tasks?status=queued,gone")
    assert (answer.status_code, answer.json["field"]) == (422, "status")


def test_moments_errors_and_searches(client: FlaskClient, finish: Finish) -> None:
    made = [create(client, args={"message": f"m{number}"}) for number in range(3)]
    finish(made[1], TaskError(type="KeyError", message=""))
    middle = client.get(f"/tasks/{made[1]}").json["created_at"]
    assert uids(client, f"created_after={middle}") == [made[2], made[1]]
    assert uids(client, f"created_before={middle}") == [made[0]]
    assert uids(client, f"created_after={middle.replace('Z', '%2B00:00')}") == [made[2], made[1]]
    assert uids(client, "error=KeyError") == [made[1]]
    assert uids(client, f"q={made[2][:8]}") == uids(client, "q=args.message=m2") == [made[2]]
    assert uids(client, "created_after=0001-01-01T00:00:00Z&created_before=9999-12-31T23:59:59-23:00") == made[::-1]


@pytest.mark.parametrize("query", ["q=abc", "q=", "created_after=now", "q=a.b=c", "error=a&error=b", "q=args.=x"])
def test_a_wrong_search_is_refused(client: FlaskClient, query: str) -> None:
    assert client.get(f"/tasks?{query}").status_code == 422


def test_a_cancel_stands_in_the_history(client: FlaskClient, store: Store) -> None:
    client.delete(f"/tasks/{create(client)}")
    assert store.history.in_all()["default/echo"][3] == 1
