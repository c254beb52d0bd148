"""The configuration of nginx in docs/operations.md, word for word but for path and port, in a real nginx."""

import getpass
import http.client
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.servers import eventually
from tests.system.instance import ROOT, Instance

AROUND = """
user {user};
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    {documented}
}}
"""


def documented(path: Path, port: int) -> str:
    page = (ROOT / "docs" / "operations.md").read_text()
    found = re.search(r"^    upstream sandbox .*?^        }\n    }$", page, re.DOTALL | re.MULTILINE)
    assert found
    return found[0].replace("/run/sandbox/web.sock", str(path)).replace("listen 80", f"listen 127.0.0.1:{port}")


@pytest.fixture
def behind_nginx(make_instance: Callable[..., Instance], folder: Path) -> Iterator[Instance]:
    """`port` is nginx's."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if program is None:
        pytest.skip("nginx is not installed: `apt-get install nginx` does it")
    path = folder / "w.sock"
    instance = make_instance(SANDBOX_BIND=f"unix:{path}").start()
    eventually(lambda: "Ctrl-C" in instance.output, 60)
    (folder / "nginx").mkdir()
    file = folder / "nginx" / "nginx.conf"
    config = documented(path, instance.port)
    file.write_text(AROUND.format(user=getpass.getuser(), folder=file.parent, documented=config))
    nginx = subprocess.Popen([program, "-p", str(file.parent), "-c", str(file)])
    yield instance
    nginx.terminate()
    nginx.wait(10)


def lines(instance: Instance, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (instance.home / "log" / name).read_text().splitlines()]


def ready(port: int) -> bool:
    """By the one name that nginx passes on."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/health/ready", headers={"Host": "tasks.example"})
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def test_the_documented_nginx_serves_clients_and_tells_where_they_are(behind_nginx: Instance) -> None:
    instance = behind_nginx
    eventually(lambda: ready(instance.port), 60)

    connection = http.client.HTTPConnection("127.0.0.1", instance.port, timeout=30)
    sent = {"Content-Type": "application/json", "Host": "tasks.example", "X-Forwarded-For": "6.6.6.6"}
    for _ in range(20):
        connection.request("POST", "/tasks", b'{"type": "echo"}', sent | {"Origin": "http://tasks.example"})
        answer = connection.getresponse()
        task = json.loads(answer.read())
        assert answer.status == 201
    connection.request("GET", answer.headers["Location"], headers={"Host": "tasks.example", "Prefer": "wait=30"})
    assert json.loads(connection.getresponse().read())["status"] == "succeeded"
    for host, origin, status in (
        ("tasks.example", "http://evil.example", 403),
        ("evil.example", "http://evil.example", 421),
        ("tasks.example", "http://tasks.example", 200),
    ):
        connection.request("POST", "/queues/default/pause", headers={"Host": host, "Origin": origin})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == status
    connection.request("GET", f"/tasks/{task['uid']}/events", headers={"Host": "tasks.example"})
    answer = connection.getresponse()
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    assert b"event: end" in answer.read()
    connection.close()

    created = [line for line in lines(instance, "audit.log") if line["did"] == "created"]
    assert created[-1]["uid"] == task["uid"]
    assert {line["from"] for line in created} == {"127.0.0.1"}
    posts = eventually(lambda: [line for line in lines(instance, "web.log") if line.get("method") == "POST"][19:])
    assert {line["remote"] for line in posts} == {"127.0.0.1"}
