"""What clients see of a document that cannot be read."""

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.servers import RedisServer


@pytest.fixture
def broken(client: FlaskClient, redis_server: RedisServer) -> Any:
    """A task's document, before it was broken."""
    document = client.post("/tasks", json={"type": "echo"}, headers={"Idempotency-Key": "k"}).json
    redis_server.client().set(document["uid"], b'{"attempt": "one"}')
    return document


def test_it_is_shown_alone_and_in_the_list(client: FlaskClient, broken: Any) -> None:
    uid = broken["uid"]
    answers = [client.get(f"/tasks/{uid}"), client.get(f"/tasks/{uid}", headers={"Prefer": "wait=30"})]
    shown = [answer.json for answer in answers] + client.get("/tasks").json["tasks"]
    assert shown[0] == shown[1] == shown[2] and len(shown) == 3
    assert shown[0].keys() == broken.keys()
    same = ("uid", "type", "queue", "created_at")
    assert [shown[0][name] for name in same] == [broken[name] for name in same]
    assert (shown[0]["status"], shown[0]["error"]["type"]) == ("unreadable", "Unreadable")
    assert "no task document: " in shown[0]["error"]["message"]
    assert client.get("/tasks?status=unreadable").json["tasks"] == [shown[0]]


def test_its_events_end_and_who_comes_back_is_told_to_stay_away(client: FlaskClient, broken: Any) -> None:
    path = f"/tasks/{broken['uid']}/events"
    told = client.get(path).text
    assert '"status":"unreadable"' in told and "event: end" in told
    [*_, last] = [line.removeprefix("id: ") for line in told.splitlines() if line.startswith("id: ")]
    assert client.get(path, headers={"Last-Event-ID": last}).status_code == 204


def test_neither_cancel_nor_retry_touches_it(client: FlaskClient, broken: Any, redis_server: RedisServer) -> None:
    path = f"/tasks/{broken['uid']}"
    for answer in (client.delete(path), client.post(f"{path}/retry")):
        assert (answer.status_code, answer.content_type) == (409, "application/problem+json")
        assert f"DELETE {path}?purge removes it" in answer.json["detail"]
    assert redis_server.client().get(broken["uid"]) == b'{"attempt": "one"}'


def test_its_key_says_what_is_wrong(client: FlaskClient, broken: Any) -> None:
    answer = client.post("/tasks", json={"type": "echo"}, headers={"Idempotency-Key": "k"})
    assert answer.status_code == 409 and "cannot be read any more" in answer.json["detail"]


def test_a_purge_removes_it(client: FlaskClient, broken: Any) -> None:
    path = f"/tasks/{broken['uid']}"
    shown = client.get(path).json
    purged = client.delete(f"{path}?purge")
    assert (purged.status_code, purged.json) == (200, shown)
    assert [client.get(path).status_code, client.delete(f"{path}?purge").status_code] == [404, 404]
    assert client.get("/tasks").json["tasks"] == []
    assert client.post("/tasks", json={"type": "echo"}, headers={"Idempotency-Key": "k"}).status_code == 201


def test_a_purge_removes_what_has_finished_and_refuses_the_rest(
    client: FlaskClient, finish: Callable[..., None]
) -> None:
    uids = [client.post("/tasks", json={"type": "echo"}).json["uid"] for _ in range(2)]
    finish(uids[0])
    answers = [client.delete(f"/tasks/{uid}?purge") for uid in uids]
    assert [answer.status_code for answer in answers] == [200, 409]
    assert "cancel it first" in answers[1].json["detail"]
    assert [client.get(f"/tasks/{uid}").status_code for uid in uids] == [404, 200]


@pytest.mark.parametrize("query", ["purge=yes", "purge&purge", "force"])
def test_any_other_query_of_a_delete_is_refused(client: FlaskClient, broken: Any, query: str) -> None:
    assert client.delete(f"/tasks/{broken['uid']}?{query}").status_code == 422
