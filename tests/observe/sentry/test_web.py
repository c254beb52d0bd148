"""gunicorn's gevent workers with a Sentry server beside them."""

import http.client
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from flask import request

from service.observe.sentry.reporter import Reporter
from service.web.app import Web
from tests.observe.sentry.sink import DRIPS, HANGS, MakeSink, Sink
from tests.observe.sentry.test_outbox import served_by
from tests.servers import BUSY, eventually
from tests.web.conftest import (  # noqa: F401 - fixtures
    WebServer,
    make_app,
    make_server,
    redis_server,
    registry,
    store,
)

SECRET = "hunter2-x9"
HEADERS = {"Content-Type": "application/json", "X-Api-Key": SECRET, "Authorization": f"Bearer {SECRET}"}


@pytest.fixture
def server_kind() -> str:
    return "embedded"


def faulty(
    make_server: Callable[..., WebServer],  # noqa: F811
    sink: Sink,
    client: str = "raven",
    **variables: str,
) -> WebServer:
    server = make_server(workers=1)
    server._environment |= {
        "SENTRY_DSN": sink.dsn, "SENTRY_CLIENT": client,
        "SANDBOX_TASKS": "service.builtin.demo,tests.observe.sentry.faults", **variables,
    }  # fmt: skip
    return server.start()


def post(server: WebServer, type: str, **args: Any) -> tuple[int, http.client.HTTPMessage, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request("POST", f"/tasks?token={SECRET}&a=b", json.dumps({"type": type, "args": args}), HEADERS)
        answer = connection.getresponse()
        return answer.status, answer.headers, json.loads(answer.read())
    finally:
        connection.close()


def log_of(server: WebServer) -> str:
    return (server.home / "log" / "web.log").read_text()


def order(number: int) -> dict[str, Any]:
    return {"number": number, "card": {"cvv": "1", "token": SECRET}}


def test_an_error_in_a_view_arrives_with_its_request(
    make_server: Callable[..., WebServer],  # noqa: F811
    sink: Sink,
    client: str,
) -> None:
    server = faulty(make_server, sink, client)
    status, headers, problem = post(server, "faulty.check", order=order(3))
    assert (status, problem["detail"]) == (500, "the service has a fault; it is in its log")
    [event] = sink.expect(1)
    assert event["request"]["method"] == "POST" and event["request"]["url"].endswith("/tasks")
    assert event["request"]["query_string"] == "token=[removed]&a=b"
    tags = event["tags"]
    assert (tags["process"], tags["route"], tags["request_id"]) == ("web", "/tasks", headers["X-Request-ID"])
    exception = event["exception"]["values"][-1]
    assert (exception["type"], exception["value"]) == ("LookupError", "no warehouse for order 3")
    assert SECRET not in str(event) and "data" not in event["request"]
    lines = [json.loads(line) for line in log_of(server).splitlines()]
    [line] = [line for line in lines if line.get("message") == "a request failed"]
    assert (line["event_id"], line["request_id"]) == (event["event_id"], headers["X-Request-ID"])


def test_a_clients_mistake_is_no_event(make_server: Callable[..., WebServer], sink: Sink) -> None:  # noqa: F811
    server = faulty(make_server, sink)
    assert post(server, "unknown")[0] == 422
    assert server.status("/nothing") == 404
    server.stop()
    assert sink.requests == []


@pytest.mark.parametrize("behaviour", [HANGS, DRIPS, 429, 503, 403])
def test_a_hostile_server_slows_no_request(
    make_server: Callable[..., WebServer],  # noqa: F811
    sink: Sink,
    behaviour: str | int,
) -> None:
    sink.behaviour = behaviour
    server = faulty(make_server, sink)
    longest = 0.0
    for number in range(40):
        for kind, args, status in (("faulty.check", {"order": order(number)}, 500), ("echo", {}, 201)):
            began = time.monotonic()
            assert post(server, kind, **args)[0] == status
            longest = max(longest, time.monotonic() - began)
    assert longest < 0.5 * BUSY  # one wait for the server would be two seconds
    assert sink.times
    assert log_of(server).count("Sentry does not take errors") <= 1
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 8


def test_what_waits_is_sent_when_a_worker_stops(
    make_server: Callable[..., WebServer],  # noqa: F811
    sink: Sink,
    client: str,
) -> None:
    server = faulty(make_server, sink, client)
    for number in range(20):
        post(server, "faulty.check", order=order(number))
    server.stop()
    assert len(sink.events) == 20


def test_tls_is_verified_in_a_worker_too(
    make_server: Callable[..., WebServer],  # noqa: F811
    make_sink: MakeSink,
    tmp_path: Path,
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    trusted = {"SSL_CERT_FILE": str(tmp_path / "ca.pem"), "SSL_CERT_DIR": str(tmp_path)}
    good, bad = make_sink(tls=served_by(authority, "127.0.0.1")), make_sink(tls=served_by(authority, "example.test"))
    post(faulty(make_server, good, **trusted), "faulty.check", order=order(1))
    good.expect(1)
    server = faulty(make_server, bad, **trusted)
    post(server, "faulty.check", order=order(1))
    eventually(lambda: "its certificate is not to be trusted" in log_of(server))
    assert bad.requests == []


def test_a_view_still_reads_its_body_and_odd_logging_breaks_no_answer(
    make_app: Callable[..., Web],  # noqa: F811
    errors: Reporter,
    sink: Sink,
) -> None:
    """Form and stream bodies, and the log lines that make stock raven lose the 500."""
    app = make_app(errors=errors)

    @app.post("/form")
    def form() -> str:
        logging.getLogger("x").info("hello", extra=None)
        seen.append(request.form["a"])
        raise RuntimeError("after the body was read")

    seen: list[str] = []
    answer = app.test_client().post("/form", data={"a": "b", "password": SECRET})
    assert (answer.status_code, answer.content_type) == (500, "application/problem+json")
    assert seen == ["b"]
    [event] = sink.expect(1)
    assert SECRET not in str(event)


def test_lines_of_one_request_are_not_those_of_the_next(
    make_app: Callable[..., Web],  # noqa: F811
    errors: Reporter,
    sink: Sink,
) -> None:
    app = make_app(errors=errors)

    @app.get("/fails/<word>")
    def fails(word: str) -> str:
        logging.getLogger("x").info("in %s", word)
        raise RuntimeError(word)

    client = app.test_client()
    client.get("/fails/a")
    client.get("/fails/b")
    _, second = sink.expect(2)
    assert [crumb["message"] for crumb in second["breadcrumbs"]["values"]] == ["in b"]
