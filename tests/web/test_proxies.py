"""From which address a request comes, as the logs tell it."""

import json
from collections.abc import Callable
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

from service.observe.audit import AuditLog
from service.web import token_file
from service.web.app import Web
from tests.servers import eventually
from tests.web.conftest import WebServer
from tests.web.test_audit import lines

NGINX, OTHER, CLIENT = "10.0.0.1", "10.0.0.2", "192.0.2.7"


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded", "seen"),
    [
        ((), "", CLIENT, CLIENT),
        ((), "", "", ""),
        ((), NGINX, CLIENT, NGINX),
        ((NGINX,), NGINX, CLIENT, CLIENT),
        ((NGINX,), NGINX, f"6.6.6.6, {CLIENT}", CLIENT),
        ((NGINX,), NGINX, f"{CLIENT}, {OTHER}", OTHER),
        (("10.0.0.0/8",), NGINX, f"6.6.6.6, {CLIENT}, {OTHER}", CLIENT),
        (("10.0.0.0/8",), "", f"{CLIENT}, {OTHER}", CLIENT),
        (("10.0.0.0/8",), f"::ffff:{NGINX}", CLIENT, CLIENT),
        (("::1",), "::1", "2001:DB8::7", "2001:db8::7"),
        ((NGINX,), NGINX, f"{CLIENT}, unknown", NGINX),
        ((NGINX,), NGINX, 'x"\x1b[31m', NGINX),
        ((), "", "fe80::1%any text", "fe80::1"),
        (("fe80::/10",), "fe80::1%eth0", CLIENT, CLIENT),
    ],
)
def test_only_proxies_that_are_trusted_are_believed(
    make_app: Callable[..., Web], tmp_path: Path, trusted: tuple[str, ...], peer: str, forwarded: str, seen: str
) -> None:
    client = make_app(audit=AuditLog(tmp_path, "web"), proxies=trusted).test_client()
    client.post(
        "/tasks",
        json={"type": "echo"},
        headers={"X-Forwarded-For": forwarded},
        environ_overrides={"REMOTE_ADDR": peer},
    )
    assert [line["from"] for line in lines(tmp_path)] == [seen]


def test_the_access_log_names_the_client_and_its_token(make_server: Callable[..., WebServer], tmp_path: Path) -> None:
    secret = token_file.add(tmp_path / "tokens", "alice", "write")
    server = make_server(workers=1)
    server._environment |= {"SANDBOX_TOKENS": str(tmp_path / "tokens"), "SANDBOX_PROXIES": "127.0.0.0/8"}
    server.start()
    headers = {"Authorization": f"Bearer {secret}", "X-Forwarded-For": CLIENT}
    with urlopen(Request(f"{server.url}/types", headers=headers), timeout=10) as answer:
        assert answer.status == 200

    def line() -> dict[str, object] | None:
        logged = map(json.loads, (server.home / "log" / "web.log").read_text().splitlines())
        return next((line for line in logged if line.get("path") == "/types"), None)

    found = eventually(line)
    assert (found["remote"], found["caller"]) == (CLIENT, "alice")
