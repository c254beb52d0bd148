"""Unique tasks, as clients ask for them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from service.observe.audit import AuditLog
from service.store import SCRIPTS, Store
from service.store.connection import connect
from service.tasks import transitions
from service.tasks.declare import marked_type, task
from service.tasks.registry import Registry
from service.web.app import Web
from tests.servers import RedisServer
from tests.web.page.conftest import OWN
from tests.web.test_create import post

ECHO = {"type": "echo", "args": {"message": "hello"}}
UNIQUE = ECHO | {"unique": {"key": "k"}}


def unique(**rule: Any) -> dict[str, Any]:
    return ECHO | {"unique": {"key": "k"} | rule}


def test_the_document_names_the_key_and_a_second_one_is_answered_by_the_first(client: FlaskClient) -> None:
    first = post(client, UNIQUE)
    assert first.status_code == 201
    assert first.json["unique"] == {"key": "k", "until": "finished", "on_conflict": "return"}
    second = post(client, UNIQUE | {"args": {"message": "other"}})
    assert (second.status_code, second.json) == (200, first.json)
    assert second.headers["Location"] == first.headers["Location"]
    assert post(client, ECHO).json["unique"] is None


def test_a_refusal_names_the_task_that_has_the_key(client: FlaskClient) -> None:
    uid = post(client, UNIQUE).json["uid"]
    answer = post(client, unique(on_conflict="reject"))
    assert (answer.status_code, answer.json["holder"]) == (409, uid)
    assert answer.json["detail"] == f"the task {uid} has the same unique key, and is queued"
    batch = post(client, [ECHO, unique(on_conflict="reject")], "/tasks/batch")
    assert (batch.status_code, batch.json["holder"], batch.json["index"]) == (409, uid, 1)
    assert len(client.get("/tasks").json["tasks"]) == 1


def test_the_one_that_gives_way_says_for_whom(client: FlaskClient) -> None:
    first = post(client, UNIQUE).json
    second = post(client, unique(on_conflict="replace"))
    assert second.status_code == 201
    left = client.get(f"/tasks/{first['uid']}").json
    assert (left["status"], left["error"]["type"]) == ("cancelled", "Replaced")
    assert second.json["uid"] in left["error"]["message"]


def test_what_is_replaced_is_told_to_the_audit_log(make_app: Callable[..., Web], tmp_path: Path) -> None:
    client = make_app(audit=AuditLog(tmp_path, "web")).test_client()
    first, second = (post(client, unique(on_conflict="replace")).json for _ in range(2))
    lines = [json.loads(line) for line in (tmp_path / "audit.log").read_text().splitlines()]
    told = [(line["did"], line["uid"]) for line in lines]
    assert told == [("created", first["uid"]), ("created", second["uid"]), ("replaced", first["uid"])]


def test_a_retry_is_refused_while_another_one_has_the_key(client: FlaskClient) -> None:
    first = post(client, UNIQUE).json["uid"]
    client.delete(f"/tasks/{first}")
    second = post(client, UNIQUE).json["uid"]
    answer = client.post(f"/tasks/{first}/retry")
    assert (answer.status_code, answer.json["holder"]) == (409, second)
    client.delete(f"/tasks/{second}")
    assert client.post(f"/tasks/{first}/retry").status_code == 200


def test_a_key_of_arguments_is_made_of_their_values_and_defaults(client: FlaskClient) -> None:
    rule = {"unique": {"key": {"args": ["month", "rows"]}}}
    first = post(client, {"type": "report.build", "args": {"month": "May"}} | rule)
    assert first.json["unique"]["key"] == '{"month":"May","rows":10}'
    same = post(client, {"type": "report.build", "args": {"rows": 10, "month": "May"}} | rule)
    other = post(client, {"type": "report.build", "args": {"month": "June"}} | rule)
    assert (same.status_code, other.status_code) == (200, 201)
    long = post(client, {"type": "report.build", "args": {"month": "x" * 1000}} | rule)
    assert long.json["unique"]["key"].startswith("sha256:")


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("k", "object"),
        ({}, "key"),
        ({"key": ""}, "too short"),
        ({"key": "x" * 201}, "too long"),
        ({"key": 5}, "a number was sent"),
        ({"key": {"args": []}}, "too few"),
        ({"key": {"args": ["nothing"]}}, "the argument 'nothing', which the type does not have"),
        ({"key": "k", "until": "never"}, "never"),
        ({"key": "k", "on_conflict": "ignore"}, "ignore"),
        ({"key": "k", "until": "started", "on_conflict": "keep_last"}, "keep_last"),
        ({"key": "k", "ttl": 5}, "ttl"),
        (None, "object"),
    ],
)
def test_a_wrong_rule_is_refused(client: FlaskClient, rule: Any, says: str) -> None:
    answer = post(client, ECHO | {"unique": rule})
    assert answer.status_code == 422, answer.json
    assert answer.json["detail"].startswith("unique") and says in answer.json["detail"], answer.json


def test_a_secret_is_no_part_of_a_key(client: FlaskClient) -> None:
    wanted = {"type": "account.open", "args": {"name": "a"}, "unique": {"key": {"args": ["password"]}}}
    answer = post(client, wanted)
    assert (answer.status_code, "secret" in answer.json["detail"]) == (422, True)


def test_keep_last_takes_no_time(client: FlaskClient) -> None:
    answer = post(client, unique(on_conflict="keep_last") | {"delay": 5})
    assert (answer.status_code, answer.json["field"]) == (422, "unique")


@task("invoice.send", unique={"key": {"args": ["customer"]}, "on_conflict": "reject"})
def send_invoice(context: Any, customer: str) -> None:
    """Its type is unique."""


@task("invoice.draw", unique={"key": "all"})
def draw_invoice(context: Any) -> None: ...


def test_a_form_that_meets_a_unique_key_leads_to_the_task_that_has_it(
    make_app: Callable[..., Web], registry: Registry
) -> None:
    own = marked_type(draw_invoice)
    assert own is not None
    client = make_app(registry=Registry([*registry, own])).test_client()
    first, again = (client.post("/ui/types/invoice.draw", headers=OWN, follow_redirects=True) for _ in range(2))
    assert first.request.path == again.request.path
    assert "The task is created." in first.text
    assert "This task was there already, and has the unique key." in again.text


def test_a_type_brings_its_rule_and_a_client_may_send_another(make_app: Callable[..., Web], registry: Registry) -> None:
    own = marked_type(send_invoice)
    assert own is not None
    client = make_app(registry=Registry([*registry, own])).test_client()
    wanted = {"type": "invoice.send", "args": {"customer": "acme"}}
    first = post(client, wanted)
    assert first.json["unique"] == {"key": '{"customer":"acme"}', "until": "finished", "on_conflict": "reject"}
    assert post(client, wanted).status_code == 409
    assert post(client, wanted | {"unique": {"key": "another"}}).status_code == 201
    page = client.get("/ui/types/invoice.send").text
    assert "One task at a time for each <code>customer</code>, until it has finished. Another one: reject." in page
    uid = client.post("/ui/types/invoice.send", data={"arg:customer": "initech"}, headers=OWN).headers["Location"][-64:]
    refused = client.post("/ui/types/invoice.send", data={"arg:customer": "initech"}, headers=OWN)
    assert (refused.status_code, uid in refused.text) == (409, True)
    [described] = [each for each in client.get("/types").json["types"] if each["type"] == "invoice.send"]
    assert described["unique"] == {"key": {"args": ["customer"]}, "until": "finished", "on_conflict": "reject"}


# --- beside Idempotency-Key ------------------------------------------------------------------------------


def test_an_idempotency_key_comes_before_the_unique_key(client: FlaskClient, finish: Callable[..., None]) -> None:
    """A request that comes again is answered by the task that it has created, also when that has ended."""
    first = post(client, unique(on_conflict="reject"), Idempotency_Key="i").json["uid"]
    assert post(client, unique(on_conflict="reject"), Idempotency_Key="i").json["uid"] == first
    finish(first)
    second = post(client, unique(on_conflict="reject")).json["uid"]
    again = post(client, unique(on_conflict="reject"), Idempotency_Key="i")
    assert (again.status_code, again.json["uid"], again.json["uid"] == second) == (200, first, False)


def test_an_idempotency_key_whose_request_was_answered_by_another_task_is_free(
    client: FlaskClient, finish: Callable[..., None]
) -> None:
    first = post(client, UNIQUE).json["uid"]
    assert post(client, UNIQUE, Idempotency_Key="i").json["uid"] == first
    finish(first)
    assert post(client, UNIQUE, Idempotency_Key="i").status_code == 201


def test_a_batch_that_comes_again_has_the_same_answer(client: FlaskClient, finish: Callable[..., None]) -> None:
    first = post(client, UNIQUE).json["uid"]
    batch = post(client, [ECHO, UNIQUE], "/tasks/batch", Idempotency_Key="i")
    assert (batch.status_code, batch.json["tasks"][1]["uid"]) == (201, first)
    again = post(client, [ECHO, UNIQUE], "/tasks/batch", Idempotency_Key="i")
    assert (again.status_code, again.json) == (200, batch.json)
    assert post(client, [UNIQUE, UNIQUE], "/tasks/batch", Idempotency_Key="i").status_code == 422
    finish(first)
    assert post(client, [ECHO, UNIQUE], "/tasks/batch", Idempotency_Key="i").status_code == 409


# --- where there are several partitions ----------------------------------------------------------------------


def test_the_key_chooses_the_partition(redis_server: RedisServer, make_app: Callable[..., Web]) -> None:
    store = Store(connect(redis_server.url, SCRIPTS), partitions=4)
    client = make_app(store=store).test_client()
    homes = {}
    for number in range(20):
        wanted = ECHO | {"unique": {"key": str(number)}}
        uid = post(client, wanted).json["uid"]
        homes[number] = store.partition(uid)
        assert post(client, wanted, Idempotency_Key=str(number)).json["uid"] == uid
        store.change(uid, lambda task: transitions.cancelled(task, "2026-03-01T12:00:00.000000Z"))
    assert set(homes.values()) == {0, 1, 2, 3}
    apart = [ECHO | {"unique": {"key": str(number)}} for number in homes]
    answer = post(client, apart, "/tasks/batch")
    assert (answer.status_code, answer.json["field"]) == (422, "unique")
    assert "in another partition" in answer.json["detail"]
    together = [ECHO, *[each for number, each in enumerate(apart) if homes[number] == homes[0]]]
    made = post(client, together, "/tasks/batch")
    assert made.status_code == 201
    assert {store.partition(each["uid"]) for each in made.json["tasks"]} == {homes[0]}
    store.close()


def test_a_batch_has_no_key_twice(client: FlaskClient) -> None:
    answer = post(client, [UNIQUE, UNIQUE], "/tasks/batch")
    assert (answer.status_code, answer.json["index"]) == (422, 1)
    assert answer.json["detail"].startswith("tasks[1].unique: its unique key is that of another task")
