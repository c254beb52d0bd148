import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from service.errors import StoreUnavailable
from service.store import SCRIPTS, Layout, Store
from service.store.connection import connect
from service.tasks.registry import Registry
from service.web.app import Web
from tests.servers import RedisServer

UNKNOWN = "0" * 64
FOR_PEOPLE = ("page", "static")  # blueprints of the page: their addresses are for browsers
PATHS = {
    "/tasks": "GET, HEAD, OPTIONS, POST",
    "/tasks/batch": "DELETE, GET, HEAD, OPTIONS, POST",  # `batch` reads as a UID too
    f"/tasks/{UNKNOWN}": "DELETE, GET, HEAD, OPTIONS",
    f"/tasks/{UNKNOWN}/retry": "OPTIONS, POST",
    "/types": "GET, HEAD, OPTIONS",
    "/types/echo/pause": "OPTIONS, POST",
    "/types/echo/resume": "OPTIONS, POST",
    "/queues": "GET, HEAD, OPTIONS",
    "/queues/default/pause": "OPTIONS, POST",
    "/queues/default/resume": "OPTIONS, POST",
    "/health/live": "GET, HEAD, OPTIONS",
    "/health/ready": "GET, HEAD, OPTIONS",
    "/openapi.json": "GET, HEAD, OPTIONS",
}


def allowed(answer: Any) -> str:
    return ", ".join(sorted(re.split(r",\s*", answer.headers["Allow"])))


@pytest.mark.parametrize(("path", "methods"), PATHS.items())
def test_options_and_refused_methods_list_what_is_allowed(client: FlaskClient, path: str, methods: str) -> None:
    options, refused = client.options(path), client.patch(path)
    assert (options.status_code, allowed(options), options.data) == (200, methods, b"")
    assert (refused.status_code, allowed(refused)) == (405, methods)
    assert refused.content_type == "application/problem+json"


@pytest.mark.parametrize(
    "path", ["/types", "/queues", "/health/live", "/health/ready", "/tasks", f"/tasks/{UNKNOWN}", "/openapi.json"]
)
def test_head_is_get_without_the_body(client: FlaskClient, path: str) -> None:
    head, get = client.head(path), client.get(path)
    assert (head.status_code, head.data) == (get.status_code, b"")
    assert head.headers["Content-Length"] == str(len(get.data))


@pytest.mark.parametrize(
    "path", ["/", "/task", "/tasks/", "/tasks/a/b", "/health", "/%00", "/%ff%fe", "/static/x", "*"]
)
def test_unknown_paths_are_problems(client: FlaskClient, path: str) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.content_type) == (404, "application/problem+json")
    assert answer.json.keys() == {"type", "title", "status", "detail"}


@pytest.mark.parametrize("path", ["//tasks", "///health/live", "//", "tasks", "*"])
def test_a_path_has_one_spelling(client: FlaskClient, path: str) -> None:
    """A proxy's rule for /tasks knows no other."""
    answer = client.get("/", environ_overrides={"PATH_INFO": path}, headers={"Accept": "text/html"})
    assert (answer.status_code, answer.content_type) == (404, "application/problem+json")


def test_every_answer_has_a_request_id(client: FlaskClient) -> None:
    answers = [client.get("/types"), client.get("/nothing"), client.post("/tasks"), client.options("/tasks")]
    ids = [answer.headers["X-Request-ID"] for answer in answers]
    assert len(set(ids)) == 4 and all(ids)


def test_a_sane_request_id_is_taken_over(client: FlaskClient) -> None:
    assert client.get("/types", headers={"X-Request-ID": "abc-1"}).headers["X-Request-ID"] == "abc-1"


@pytest.mark.parametrize("sent", ["", "x" * 129, "a b", 'a"b', "ü"])
def test_another_request_id_is_replaced(client: FlaskClient, sent: str) -> None:
    assert re.fullmatch("[0-9a-f]{24}", client.get("/types", headers={"X-Request-ID": sent}).headers["X-Request-ID"])


def test_the_types_are_described(client: FlaskClient) -> None:
    types = {described["type"]: described for described in client.get("/types").json["types"]}
    report = types["report.build"]
    assert (report["queue"], report["max_attempts"], report["timeout"]) == ("reports", 5, 120)
    assert report["description"] == "Builds a report."
    assert report["args"]["required"] == ["month"]
    assert report["args"]["properties"]["rows"] == {"type": "integer", "default": 10}


def test_the_description_covers_every_call(client: FlaskClient, make_app: Callable[..., Web]) -> None:
    described = client.get("/openapi.json").json["paths"]
    routes = {
        (re.sub(r"<(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in make_app().url_map.iter_rules()
        if rule.endpoint.partition(".")[0] not in FOR_PEOPLE
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {(path, method) for path, calls in described.items() for method in calls} == routes


def test_a_fault_of_the_service_is_a_problem_and_in_the_log(
    make_app: Callable[..., Web], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app()
    app.view_functions["types.list"] = lambda: 1 // 0  # type: ignore[assignment]
    answer = app.test_client().get("/types")
    assert (answer.status_code, answer.content_type) == (500, "application/problem+json")
    assert "ZeroDivisionError" in caplog.text and "ZeroDivisionError" not in answer.text
    [record] = [record for record in caplog.records if record.exc_info]
    assert record.fields == {  # type: ignore[attr-defined]
        "request_id": answer.headers["X-Request-ID"],
        "route": "/types",
        "method": "GET",
        "path": "/types",
        "event_id": None,
    }


# --- without Redis -----------------------------------------------------------------------------------


@pytest.fixture
def cut_off(tmp_path: Path, make_app: Callable[..., Web]) -> Iterator[FlaskClient]:
    store = Store(connect(f"unix://{tmp_path}/nothing", SCRIPTS))
    yield make_app(store=store).test_client()
    store.close()


def test_without_redis_every_call_is_a_503(cut_off: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    answers = [
        cut_off.post("/tasks", json={"type": "echo"}), cut_off.post("/tasks/batch", json=[{"type": "echo"}]),
        cut_off.get("/tasks"), cut_off.get(f"/tasks/{uid_of_partition_0()}"), cut_off.get("/health/ready"),
    ]  # fmt: skip
    for answer in answers:
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert "Redis cannot be reached" in answer.json["detail"]
    assert answers[-1].json["failing"] == {"redis": "Redis cannot be reached"}
    assert cut_off.get("/health/live").status_code == 200
    said = [record for record in caplog.records if record.name.startswith("service.web")]
    assert not any(record.exc_info for record in said)
    assert {record.once for record in said if record.levelno >= logging.WARNING} == {"store"}  # type: ignore[attr-defined]


def test_on_anothers_redis_every_call_is_a_503_that_says_so(store: Store, make_app: Callable[..., Web]) -> None:
    wire = store._wire
    Layout(wire, name="billing", partitions=1).claim()
    guarded = Store(wire, layout=Layout(wire, name="shop", partitions=1))
    client = make_app(store=guarded).test_client()
    for answer in (client.post("/tasks", json={"type": "echo"}), client.get("/tasks"), client.get("/health/ready")):
        assert answer.status_code == 503
        assert "holds the tasks of the installation 'billing'" in answer.json["detail"]
    assert "SANDBOX_NAME" in answer.json["failing"]["redis"]


def test_a_notice_that_a_full_disk_left_empty_still_says_something(
    make_app: Callable[..., Web], tmp_path: Path
) -> None:
    (tmp_path / "sandbox-runner").touch()
    ready = make_app(throttled=tmp_path).test_client().get("/health/ready").json
    told = "crashes again and again; log/circus.log says more, if the disk has room"
    assert ready["failing"] == {"sandbox-runner": told}


def uid_of_partition_0() -> str:
    return Store(connect("unix:///nothing", SCRIPTS)).uid("0" * 59)


def test_ready_says_what_is_wrong_with_redis(client: FlaskClient, redis_server: RedisServer) -> None:
    assert client.get("/health/ready").json == {"status": "ready"}
    redis_server.client().config_set("maxmemory", 1)
    try:
        answer = client.get("/health/ready")
        assert answer.json["failing"] == {"redis": "Redis is out of memory"}
        assert client.post("/tasks", json={"type": "echo"}).status_code == 503
        assert client.get("/tasks").status_code == 200
    finally:
        redis_server.client().config_set("maxmemory", 0)
    assert client.post("/tasks", json={"type": "echo"}).status_code == 201


def test_ready_asks_whether_anybody_executes_tasks(make_app: Callable[..., Web]) -> None:
    alive = 2
    client = make_app(runners=lambda: alive).test_client()
    assert client.get("/health/ready").json == {"status": "ready", "runners": 2}
    alive = 0
    answer = client.get("/health/ready")
    assert (answer.status_code, answer.json["failing"]) == (503, {"runners": "no runner is at work on this host"})
    assert client.get("/health/ready?exclude=runners").json == {"status": "ready"}


def test_what_redis_refuses_is_a_fault_that_is_reported_and_not_told(
    client: FlaskClient, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    redis_server.client().set("sandbox:{0}:shelves", "not a set")
    for answer in (client.get("/tasks"), client.post("/tasks", json={"type": "echo"})):
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert "WRONGTYPE" not in answer.text and "script" not in answer.text
    said = [record for record in caplog.records if record.name.startswith("service.web")]
    for record in said:
        assert (record.levelname, record.once) == ("ERROR", "refused")  # type: ignore[attr-defined]
        assert record.exc_info and "WRONGTYPE" in str(record.exc_info[1])
    assert [record.fields["route"] for record in said] == ["/tasks", "/tasks"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("more", [{}, {"unique": {"key": "a"}}])
def test_what_the_store_has_sent_twice_is_created_once_and_told_as_new(
    client: FlaskClient, store: Store, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    """The connection to Redis broke behind the command and before its answer."""
    call = store._wire.call

    def twice(partition: int, *commands: Any, **options: Any) -> Any:
        if commands[0][0] == "EVALSHA":
            call(partition, *commands, **options)
        return call(partition, *commands, **options)

    monkeypatch.setattr(store._wire, "call", twice)
    headers = {"Idempotency-Key": "k"}
    assert client.post("/tasks", json={"type": "echo", **more}, headers=headers).status_code == 201
    assert client.post("/tasks", json={"type": "echo", **more}, headers=headers).status_code == 200
    assert len(store.index.page(limit=10)[0]) == 1


def test_a_client_that_was_answered_503_sends_the_same_again(
    client: FlaskClient, store: Store, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worst case: it was stored, and only the answer was lost."""
    create = Store.create_each

    def lost(self: Store, groups: Any) -> Any:
        create(self, groups)
        raise StoreUnavailable("Redis does not answer in time")

    with monkeypatch.context() as fault:
        fault.setattr(Store, "create_each", lost)
        assert client.post("/tasks", json={"type": "echo"}, headers={"Idempotency-Key": "k"}).status_code == 503
    assert client.post("/tasks", json={"type": "echo"}, headers={"Idempotency-Key": "k"}).status_code == 200
    assert len(store.index.page(limit=10)[0]) == 1
