"""What others are told after a deploy: Graphite and Sentry, real HTTP servers in their places."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.test_kills import a_new_release
from tests.deploy.world import World
from tests.system.instance import ROOT

TOKEN = "sentinelSentryT0ken"


@contextmanager
def server(address: str, code: int = 200) -> Iterator[tuple[str, list[tuple[str, Any, str]]]]:
    """Its URL, and what it was told: path, body, authorization."""
    told: list[tuple[str, Any, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told.append((self.path, body, self.headers.get("Authorization", "")))
            self.send_response(code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    with ThreadingHTTPServer((address, 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"http://{address}:{http.server_port}", told
        http.shutdown()
        thread.join()


@contextmanager
def what_speaks_no_http(address: str) -> Iterator[str]:
    with socket.create_server((address, 0)) as listening:

        def answer() -> None:
            with listening.accept()[0] as connection:
                connection.recv(1 << 16)
                connection.sendall(b"220 mail.example.com ESMTP\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        yield f"http://{address}:{listening.getsockname()[1]}"
        thread.join(60)


def tell(world: World, graphite: str, sentry: str, environment: str = "") -> None:
    (world.folder / "token").write_text(TOKEN)
    world.project.stage(
        world.hosts,
        extra=f'[sentry]\nurl = "{sentry}"\norganization = "acme"\nprojects = ["sandbox"]\n'
        f'token = "file:{world.folder / "token"}"\n',
        environment=f'GRAPHITE_URL = "{graphite}"\n{environment}\n',
    )


@pytest.mark.slow
def test_graphite_gets_an_event_and_sentry_a_release_and_neither_can_fail_a_deploy(world: World) -> None:
    with server(world.host.gateway) as (graphite, events), server("127.0.0.1") as (sentry, calls):
        tell(world, graphite, sentry, 'SENTRY_ENVIRONMENT = "qa"')
        said = world.project.fab("deploy")
    release = str(world.host.current)
    assert ("/events/", ["sandbox", "deploy"]) in [(path, body["tags"]) for path, body, _ in events]
    assert any(release in body["data"] and body["what"] == "sandbox deploy on test" for _, body, _ in events)
    (made, first, authorization), (deployed, second, _) = calls
    version = f"sandbox@0.1.0+g{release[-7:]}"
    assert (made, first["version"], first["projects"]) == ("/api/0/organizations/acme/releases/", version, ["sandbox"])
    assert deployed == f"/api/0/organizations/acme/releases/{version.replace('@', '%40').replace('+', '%2B')}/deploys/"
    assert second["environment"] == "qa" and authorization == f"Bearer {TOKEN}"
    assert TOKEN not in said

    with server(world.host.gateway, 500) as (graphite, _), server("127.0.0.1", 403) as (sentry, _):
        tell(world, graphite, sentry)
        said = world.project.fab("rollback")
    assert said.count("was not told, which fails nothing") == 2
    assert TOKEN not in said

    with server(world.host.gateway) as (graphite, _), server("127.0.0.1") as (sentry, calls):
        tell(world, graphite, sentry)
        a_new_release(world)
        world.project.fab("deploy")
    assert [body.get("environment") for _, body, _ in calls] == [None, "production"]  # as the service's reports have it

    with server(world.host.gateway) as (graphite, _), what_speaks_no_http("127.0.0.1") as sentry:
        tell(world, graphite, sentry)
        said = world.project.fab("rollback")
    assert "answers is no HTTP (BadStatusLine)" in said


def test_another_project_is_told_by_the_version_of_the_service_that_it_pins(tmp_path: Path) -> None:
    """So the service's own reports are called."""
    folder = tmp_path / "releases" / "20261126T101500-0a1b2c3"
    folder.mkdir(parents=True)
    wheels = {"aa": "acme-7.0-py3-none-any.whl", "bb": "sandbox-0.1.0-py3-none-any.whl", "cc": "sandbox_client-3.whl"}
    (folder / "RELEASE.json").write_text(json.dumps({"wheels": wheels, "sha": "0a1b2c3", "version": "7.0"}))
    facts = [sys.executable, "-I", ROOT / "deploy" / "remote" / "facts.py"]
    done = subprocess.run(facts, env={**os.environ, "ROOT": str(tmp_path)}, capture_output=True, check=True)
    [found] = json.loads(done.stdout)["releases"]
    assert (found["version"], found["sandbox"]) == ("7.0", "0.1.0")
