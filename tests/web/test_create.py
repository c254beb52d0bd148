import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from service.builtin.demo import sleep
from service.store import SCRIPTS, Store
from service.store.connection import connect
from service.tasks import moments
from service.testing import InvalidTask, run
from service.web.app import Web
from tests.servers import RedisServer

ECHO = {"type": "echo", "args": {"message": "hello"}}


def post(client: FlaskClient, body: Any, path: str = "/tasks", **headers: str) -> Any:
    return client.post(path, json=body, headers={name.replace("_", "-"): value for name, value in headers.items()})


def test_a_task_is_created_and_the_document_is_answered(client: FlaskClient, store: Store) -> None:
    answer = post(client, ECHO)
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"/tasks/{answer.json['uid']}"
    assert answer.content_type == "application/json"
    found = store.read(answer.json["uid"])
    assert found is not None and json.loads(json.dumps(answer.json)) == client.get(answer.headers["Location"]).json
    expected = {"type": "echo", "queue": "default", "status": "queued", "args": {"message": "hello"}, "attempt": 0,
                "max_attempts": 3, "run_at": None, "result": None, "error": None, "progress": None}  # fmt: skip
    assert {name: answer.json[name] for name in expected} == expected
    assert not {"revision", "claim", "request"} & answer.json.keys()


def test_only_the_type_is_required_and_brings_its_own_limits(client: FlaskClient) -> None:
    assert post(client, {"type": "echo"}).json["args"] == {}
    document = post(client, {"type": "report.build", "args": {"month": "May"}}).json
    assert (document["queue"], document["max_attempts"], document["timeout"]) == ("reports", 5, 120)


def test_what_the_client_says_goes_before_the_type(client: FlaskClient) -> None:
    document = post(client, ECHO | {"queue": "reports", "max_attempts": 7, "timeout": 1.5}).json
    assert (document["queue"], document["max_attempts"], document["timeout"]) == ("reports", 7, 1.5)


def test_a_delayed_task_is_scheduled(client: FlaskClient) -> None:
    document = post(client, ECHO | {"delay": 60}).json
    assert document["status"] == "scheduled"
    assert moments.microseconds(document["run_at"]) - moments.microseconds(document["created_at"]) == 60_000_000


def test_run_at_is_kept_to_the_microsecond_in_utc(client: FlaskClient) -> None:
    document = post(client, ECHO | {"run_at": "2027-06-01T12:00:00.123456+02:00"}).json
    assert (document["status"], document["run_at"]) == ("scheduled", "2027-06-01T10:00:00.123456Z")


@pytest.mark.parametrize("when", [{"delay": 0}, {"run_at": "2001-01-01T00:00:00Z"}])
def test_what_is_due_already_is_queued_at_once(client: FlaskClient, when: dict[str, Any]) -> None:
    document = post(client, ECHO | when).json
    assert (document["status"], document["run_at"]) == ("queued", None)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"type": "nothing"}, "type"),
    ({"type": 5}, "type"),
    ({}, "type"),
    ({"queue": "not-served"}, "queue"),
    ({"type": "elsewhere", "args": {}}, "queue"),
    ({"delay": -1}, "delay"),
    ({"delay": 1e12}, "delay"),
    ({"delay": None}, "delay"),
    ({"delay": 1, "run_at": "2027-06-01T12:00:00Z"}, "delay"),
    ({"run_at": "2027-06-01T12:00:00"}, "run_at"),
    ({"run_at": "tomorrow"}, "run_at"),
    ({"run_at": "9999-12-31T23:59:59-23:59"}, "run_at"),
    ({"max_attempts": 0}, "max_attempts"),
    ({"max_attempts": 1001}, "max_attempts"),
    ({"max_attempts": 1.5}, "max_attempts"),
    ({"timeout": 0}, "timeout"),
    ({"timeout": 8 * 86400}, "timeout"),
    ({"args": []}, "args"),
    ({"args": {"no_such": 1}}, "args"),
    ({"type": "report.build", "args": {}}, "args"),
    ({"type": "report.build", "args": {"month": 5}}, "args"),
    ({"args": {"message": "\0", "x": 1}}, "args"),
    ({"uid": "mine"}, "uid"),
]


@pytest.mark.parametrize(("change", "field"), WRONG)
def test_a_wrong_field_is_named(client: FlaskClient, store: Store, change: dict[str, Any], field: str) -> None:
    answer = post(client, change and ECHO | change)
    assert (answer.status_code, answer.json["field"]) == (422, field)
    assert answer.content_type == "application/problem+json"
    assert answer.json["detail"].startswith(f"{field}: ")
    assert store.index.page(limit=10) == ([], None)


def test_the_wrong_argument_is_named(client: FlaskClient) -> None:
    assert "month" in post(client, {"type": "report.build", "args": {}}).json["detail"]
    assert "rows" in post(client, {"type": "report.build", "args": {"month": "May", "rows": "x"}}).json["detail"]


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"nonsense", b'{"type":"echo"} {}',
     b'{"type":"ec\xffho"}', b'{"type":"\\ud800"}', b'{"type":"echo","args":{"message":"\xff"}}',
     b'{"type":"echo","args":{"message":"\\ud800"}}', b'{"type":"echo","args":' + b"[" * 100_000, b"\xef\xbb\xbf{}"],
)  # fmt: skip
@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "k"}])
def test_broken_json_is_refused(client: FlaskClient, body: bytes, headers: dict[str, str]) -> None:
    answer = client.post("/tasks", data=body, content_type="application/json", headers=headers)
    assert answer.status_code == 400, answer.json
    assert answer.content_type == "application/problem+json"


@pytest.mark.parametrize("message", ["1e999", "1" * 5000, "[" * 65 + "]" * 65, '{"a":' * 65 + "1" + "}" * 65])
@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "k"}])
def test_what_no_reader_could_take_is_refused(client: FlaskClient, message: str, headers: dict[str, str]) -> None:
    body = f'{{"type":"echo","args":{{"message":{message}}}}}'
    one = client.post("/tasks", data=body, content_type="application/json", headers=headers)
    many = client.post("/tasks/batch", data=f"[{body}]", content_type="application/json", headers=headers)
    assert (one.status_code, one.json["field"], many.status_code, many.json["field"]) == (422, "args", 422, "args")
    assert many.json["detail"] == f"tasks[0].{one.json['detail']}"


@pytest.mark.parametrize("message", ["\0", "ü€😀", 2**64 + 1, [[[]] * 200], 1.5e300, "\u2028"])
def test_unusual_arguments_survive(client: FlaskClient, message: Any) -> None:
    answer = post(client, {"type": "echo", "args": {"message": message}})
    assert client.get(answer.headers["Location"]).json["args"] == {"message": message}


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
def test_another_content_type_is_refused(client: FlaskClient, kind: str | None) -> None:
    assert client.post("/tasks", data=b'{"type":"echo"}', content_type=kind).status_code == 415


def test_a_content_type_with_parameters_is_taken(client: FlaskClient) -> None:
    answer = client.post("/tasks", data=b'{"type":"echo"}', content_type="Application/JSON; charset=utf-8")
    assert answer.status_code == 201


def test_a_large_body_is_refused(client: FlaskClient) -> None:
    assert post(client, ECHO | {"args": {"message": "x" * 262_000}}).status_code == 201
    answer = post(client, ECHO | {"args": {"message": "x" * 262_144}})
    assert (answer.status_code, answer.json["status"]) == (413, 413)


# --- batches ---------------------------------------------------------------------------------------


def test_a_batch_is_created_in_order(client: FlaskClient) -> None:
    answer = post(client, [ECHO | {"args": {"message": number}} for number in range(1000)], "/tasks/batch")
    assert answer.status_code == 201
    assert [document["args"]["message"] for document in answer.json["tasks"]] == list(range(1000))
    newest = client.get("/tasks?limit=3").json["tasks"]
    assert [document["args"]["message"] for document in newest] == [999, 998, 997]


@pytest.mark.parametrize(
    ("batch", "status", "index", "field"),
    [
        ([], 422, None, None),
        ([ECHO] * 1001, 422, None, None),
        (ECHO, 422, None, None),
        ([ECHO, 5], 422, 1, None),
        ([ECHO, ECHO, {"type": "echo", "delay": "x"}], 422, 2, "delay"),
        ([ECHO, {"type": "echo", "args": {"x": 1}}], 422, 1, "args"),
        ([ECHO, {"type": "no"}], 422, 1, "type"),
        ([ECHO, {}], 422, 1, "type"),
        ([ECHO, {"type": "echo", "what": 1}], 422, 1, "what"),
    ],
)
def test_a_wrong_batch_stores_nothing(
    client: FlaskClient, store: Store, batch: Any, status: int, index: int | None, field: str | None
) -> None:
    answer = post(client, batch, "/tasks/batch")
    assert (answer.status_code, answer.json.get("index"), answer.json.get("field")) == (status, index, field)
    if index is not None:
        assert answer.json["detail"].startswith(f"tasks[{index}]")
    assert store.index.page(limit=10) == ([], None)


def test_a_batch_lies_in_one_partition(redis_server: RedisServer, make_app: Callable[..., Web]) -> None:
    store = Store(connect(redis_server.url, SCRIPTS), partitions=4)
    client = make_app(store=store).test_client()
    for key in ("a", "b", "c", None):
        headers = {"Idempotency_Key": key} if key else {}
        documents = post(client, [ECHO] * 20, "/tasks/batch", **headers).json["tasks"]
        assert len({store.partition(document["uid"]) for document in documents}) == 1
        if key:
            again = post(client, [ECHO] * 20, "/tasks/batch", **headers)
            assert (again.status_code, again.json["tasks"]) == (200, documents)
    store.close()


# --- Idempotency-Key -------------------------------------------------------------------------------


def test_the_same_key_creates_once(client: FlaskClient, finish: Callable[..., None]) -> None:
    first = post(client, ECHO, Idempotency_Key="order-1")
    finish(first.json["uid"])
    again = post(client, ECHO, Idempotency_Key="order-1")
    assert (first.status_code, again.status_code) == (201, 200)
    assert (again.json["uid"], again.json["status"]) == (first.json["uid"], "succeeded")
    assert post(client, ECHO, Idempotency_Key="order-2").status_code == 201


def test_requests_are_compared_as_json(client: FlaskClient) -> None:
    bodies = [
        '{"type":"echo","args":{"message":{"a":1,"b":[2,3.5]}}}',
        ' {"args": {"message": {"b": [2.0, 3.5], "a": 1}}, "type": "\\u0065cho"} ',
    ]
    statuses = [
        client.post("/tasks", data=body, content_type="application/json", headers={"Idempotency-Key": "k"}).status_code
        for body in bodies
    ]
    assert statuses == [201, 200]


@pytest.mark.parametrize("other", [{"type": "echo"}, ECHO | {"max_attempts": 3}, ECHO | {"args": {"message": "Hello"}}])
def test_a_key_of_another_request_is_refused(client: FlaskClient, other: Any) -> None:
    post(client, ECHO, Idempotency_Key="k")
    answer = post(client, other, Idempotency_Key="k")
    assert (answer.status_code, answer.json["field"]) == (422, "Idempotency-Key")


def test_true_and_1_are_different(client: FlaskClient) -> None:
    post(client, {"type": "echo", "args": {"message": 1}}, Idempotency_Key="k")
    assert post(client, {"type": "echo", "args": {"message": True}}, Idempotency_Key="k").status_code == 422


def test_a_key_serves_a_single_task_or_a_batch(client: FlaskClient) -> None:
    post(client, ECHO, Idempotency_Key="k")
    assert post(client, [ECHO], "/tasks/batch", Idempotency_Key="k").status_code == 422
    assert post(client, [ECHO, ECHO], "/tasks/batch", Idempotency_Key="batch").status_code == 201
    assert post(client, [ECHO, ECHO, ECHO], "/tasks/batch", Idempotency_Key="batch").status_code == 422


def test_a_batch_of_which_a_part_has_expired_is_a_conflict(client: FlaskClient, redis_server: RedisServer) -> None:
    first = post(client, [ECHO] * 3, "/tasks/batch", Idempotency_Key="k").json["tasks"]
    redis_server.client().delete(first[0]["uid"])
    answer = post(client, [ECHO] * 3, "/tasks/batch", Idempotency_Key="k")
    assert answer.status_code == 409 and "expired" in answer.json["detail"]


@pytest.mark.parametrize("key", ["", "x" * 256, "a b", "ü"])
def test_a_key_that_is_none_is_refused(client: FlaskClient, key: str) -> None:
    assert post(client, ECHO, Idempotency_Key=key).status_code == 400


def test_many_clients_at_once_with_one_key_create_one_task(make_app: Callable[..., Web], store: Store) -> None:
    app = make_app()
    statuses: list[int] = []

    def create() -> None:
        statuses.append(post(app.test_client(), ECHO, Idempotency_Key="k").status_code)

    threads = [threading.Thread(target=create, daemon=True) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    assert sorted(statuses) == [200] * 15 + [201]
    assert len(store.index.page(limit=10)[0]) == 1


def test_a_test_of_a_handler_reads_what_a_client_reads_about_wrong_arguments(client: FlaskClient) -> None:
    deep: list[Any] = []
    for _ in range(64):
        deep = [deep]
    for seconds in ("ten", deep):
        refused = client.post("/tasks", json={"type": "sleep", "args": {"seconds": seconds}})
        with pytest.raises(InvalidTask) as raised:
            run(sleep, seconds=seconds)
        assert (refused.status_code, refused.json["detail"]) == (422, str(raised.value))
