from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from service.tasks.document import TaskError

UNKNOWN = "0" * 64


@pytest.fixture
def create(client: FlaskClient) -> Callable[..., Any]:
    def create(**fields: Any) -> Any:
        answer = client.post("/tasks", json={"type": "echo"} | fields)
        assert answer.status_code == 201
        return answer.json

    return create


def test_a_task_is_read_by_path_and_by_query(client: FlaskClient, create: Callable[..., Any]) -> None:
    document = create()
    assert client.get(f"/tasks/{document['uid']}").json == document
    assert client.get(f"/tasks?task_id={document['uid']}").json == document


@pytest.mark.parametrize("uid", [UNKNOWN, "nonsense", "A" * 64, "%00", "%ff", "x" * 3000, ""])
def test_what_is_no_task_is_not_found(client: FlaskClient, uid: str) -> None:
    for answer in (client.get(f"/tasks?task_id={uid}"), uid and client.get(f"/tasks/{uid}")):
        if answer:
            assert (answer.status_code, answer.content_type) == (404, "application/problem+json")
    if uid:
        assert client.delete(f"/tasks/{uid}").status_code == 404
        assert client.post(f"/tasks/{uid}/retry").status_code == 404


def test_a_queued_and_a_scheduled_task_can_be_cancelled(client: FlaskClient, create: Callable[..., Any]) -> None:
    for document in (create(), create(delay=60)):
        answer = client.delete(f"/tasks/{document['uid']}")
        assert (answer.status_code, answer.json["status"], answer.json["run_at"]) == (200, "cancelled", None)
        again = client.delete(f"/tasks/{document['uid']}")
        assert (again.status_code, again.content_type) == (409, "application/problem+json")


def test_a_failed_or_cancelled_task_can_be_retried(
    client: FlaskClient, create: Callable[..., Any], finish: Callable[..., None]
) -> None:
    failed, cancelled = create()["uid"], create()["uid"]
    finish(failed, TaskError("ValueError", "no"))
    client.delete(f"/tasks/{cancelled}")
    for uid in (failed, cancelled):
        answer = client.post(f"/tasks/{uid}/retry")
        assert (answer.status_code, answer.json["status"], answer.json["error"]) == (200, "queued", None)
        assert client.post(f"/tasks/{uid}/retry").status_code == 409


def test_a_task_that_succeeded_can_be_neither_retried_nor_cancelled(
    client: FlaskClient, create: Callable[..., Any], finish: Callable[..., None]
) -> None:
    uid = create()["uid"]
    finish(uid)
    assert client.post(f"/tasks/{uid}/retry").status_code == 409
    assert client.delete(f"/tasks/{uid}").status_code == 409
    assert client.get(f"/tasks/{uid}").json["status"] == "succeeded"


# --- the list --------------------------------------------------------------------------------------


def pages(client: FlaskClient, query: str) -> list[list[str]]:
    found: list[list[str]] = []
    cursor = ""
    while True:
        answer = client.get(f"/tasks?{query}{cursor}")
        assert answer.status_code == 200, answer.json
        found.append([document["uid"] for document in answer.json["tasks"]])
        if answer.json["next"] is None:
            return found
        cursor = f"&cursor={answer.json['next']}"


def test_the_list_is_newest_first_in_pages(client: FlaskClient, create: Callable[..., Any]) -> None:
    uids = [create()["uid"] for _ in range(7)]
    assert [uid for page in pages(client, "limit=3") for uid in page] == uids[::-1]
    assert len(pages(client, "limit=3")[0]) == 3


def test_the_cursor_stays_right_while_tasks_come_and_go(client: FlaskClient, create: Callable[..., Any]) -> None:
    uids = [create()["uid"] for _ in range(6)]
    first = client.get("/tasks?limit=2").json
    create()
    client.delete(f"/tasks/{uids[4]}")
    rest = client.get(f"/tasks?limit=100&cursor={first['next']}").json["tasks"]
    assert [document["uid"] for document in rest] == uids[3::-1]


def test_the_list_is_filtered(client: FlaskClient, create: Callable[..., Any]) -> None:
    echo = create()["uid"]
    late = create(delay=60, queue="reports")["uid"]
    sleep = create(type="sleep")["uid"]
    assert pages(client, "type=sleep") == [[sleep]]
    assert pages(client, "status=scheduled") == [[late]]
    assert pages(client, "queue=default") == [[sleep, echo]]
    assert pages(client, "queue=default&type=echo&status=queued") == [[echo]]
    assert pages(client, "type=unheard-of") == [[]]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"), ("limit=101", "limit"), ("limit=x", "limit"), ("limit=-1", "limit"), ("limit=", "limit"),
        ("limit=٣", "limit"), ("cursor=x", "cursor"), ("cursor=1-2", "cursor"), ("status=done", "status"),
        ("error=a&error=b", "error"), ("what=1", "what"), (f"task_id={UNKNOWN}&limit=1", "limit"),
        ("%00=1", "\0"),
    ],
)  # fmt: skip
def test_a_wrong_query_is_refused(client: FlaskClient, query: str, field: str) -> None:
    answer = client.get(f"/tasks?{query}")
    assert (answer.status_code, answer.json["field"]) == (422, field)
