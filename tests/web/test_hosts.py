"""Names under which a service without tokens may be called; and with which it is none of its business."""

from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from service import settings
from service.cli import wiring
from service.web.app import Web
from service.web.hosts import Hosts
from tests.servers import RedisServer

OURS = ["localhost", "LocalHost:8000", "localhost.", "127.0.0.1:8000", "[::1]:8000", "10.0.0.7", "Tasks.example:8000"]
SOCKET = {"SANDBOX_BIND": "unix:/tmp/never/bound.sock"}
STRANGE = ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "[x]", "@", ":80"]


@pytest.fixture
def client(make_app: Callable[..., Web]) -> FlaskClient:
    return make_app(hosts=Hosts(["tasks.example"])).test_client()


@pytest.mark.parametrize("host", OURS)
def test_an_address_localhost_and_a_configured_name_are_answered(client: FlaskClient, host: str) -> None:
    assert client.get("/types", headers={"Host": host}).status_code == 200
    own = {"Host": host, "Origin": f"http://{host}"}
    assert client.post("/tasks", json={"type": "echo"}, headers=own).status_code == 201


@pytest.mark.parametrize("host", STRANGE)
def test_another_name_is_refused_for_reads_and_writes(client: FlaskClient, host: str) -> None:
    answers = [
        client.post("/tasks", json={"type": "echo"}, headers={"Host": host, "Origin": f"http://{host}"}),
        client.get("/tasks", headers={"Host": host}),
    ]
    assert [answer.status_code for answer in answers] == [421, 421]
    assert "SANDBOX_HOSTS" in answers[0].json["detail"]
    assert client.get("/tasks").json["tasks"] == []


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "", "http://localhost:81", "https://localhost:80", "http://localhost.evil"],
)
def test_a_write_from_a_page_of_another_origin_is_refused(client: FlaskClient, origin: str) -> None:
    answer = client.post("/tasks", json={"type": "echo"}, headers={"Host": "localhost", "Origin": origin})
    assert (answer.status_code, answer.json["detail"][:7]) == (403, "Origin:")
    assert client.get("/tasks", headers={"Host": "localhost", "Origin": origin}).status_code == 200


@pytest.mark.parametrize("origin", ["http://localhost", "http://localhost:80"])
@pytest.mark.parametrize("host", ["localhost", "localhost:80"])
def test_the_usual_port_may_be_left_out(client: FlaskClient, host: str, origin: str) -> None:
    headers = {"Host": host, "Origin": origin}
    assert client.post("/tasks", json={"type": "echo"}, headers=headers).status_code == 201


def test_health_checks_come_under_any_name(client: FlaskClient) -> None:
    assert client.get("/health/live", headers={"Host": "evil.example"}).status_code == 200


@pytest.mark.parametrize(
    ("variables", "status"),
    [
        ({}, 421),
        ({"SANDBOX_HOSTS": "other.example, tasks.example"}, 200),
        (SOCKET, 200),
        (SOCKET | {"SANDBOX_HOSTS": "tasks.example"}, 200),
        (SOCKET | {"SANDBOX_HOSTS": "other.example"}, 421),
        ({"SANDBOX_TOKENS": "{folder}/tokens"}, 401),
    ],
)
def test_names_are_asked_for_without_tokens_and_on_a_unix_socket_if_some_are_set(
    tmp_path: Path, variables: dict[str, str], status: int
) -> None:
    client = wired(tmp_path, **variables)
    assert client.get("/openapi.json", headers={"Host": "tasks.example"}).status_code == status


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        (None, 200),
        ("http://tasks.example", 200),
        ("https://tasks.example", 200),  # the proxy speaks TLS
        ("http://evil.example", 403),
        ("https://evil.tasks.example", 403),
        ("null", 403),
    ],
)
def test_a_page_of_another_site_cannot_write_through_the_proxy_of_a_unix_socket(
    tmp_path: Path, redis_server: RedisServer, origin: str | None, status: int
) -> None:
    """A browser sends this without asking first: it has no body."""
    client = wired(tmp_path, REDIS_URL=redis_server.url, **SOCKET)
    headers = {"Host": "tasks.example"} | ({"Origin": origin} if origin else {})
    assert client.post("/queues/default/pause", headers=headers).status_code == status
    paused = client.get("/queues", headers={"Host": "tasks.example"}).json["queues"][0]["paused"]
    assert (paused is not None) == (status == 200)


def wired(folder: Path, **variables: str) -> FlaskClient:
    given = {"SANDBOX_HOME": str(folder), **{name: text.format(folder=folder) for name, text in variables.items()}}
    return wiring.app(settings.read(given)).test_client()
