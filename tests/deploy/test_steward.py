"""`workspaces = true`: setup puts the steward on the host, and no deploy touches it."""

import json
from collections.abc import Callable

import pytest

from tests.deploy.world import World
from tests.servers import BUSY, eventually

ASK = """
import socket
connection = socket.socket(socket.AF_UNIX)
connection.connect("/run/sandbox-steward/socket")
connection.sendall(b'{"verb": "about"}\\n')
print(connection.makefile().readline())
"""


@pytest.mark.slow
def test_setup_installs_the_steward_and_twice_is_once(make_bare: Callable[..., World]) -> None:
    world = make_bare()
    origin = 'SANDBOX_WORKSPACE_GIT = "https://me:secret@git.example.com/shop.git"\n'
    world.project.stage(world.hosts, extra="workspaces = true", environment=origin)
    world.project.fab("setup")
    host = world.host
    words = ("/usr/bin/python3", "-I", "-c", ASK)
    as_service = ("setpriv", "--reuid=sandbox", "--regid=sandbox", "--init-groups")
    about = json.loads(host.run(*as_service, *words).stdout)["done"]
    assert about["origin"] == "https://git.example.com/shop.git"
    assert about["isolation"]["metadata"] == "refused"
    assert "SANDBOX_WORKSPACE_ISOLATION='isolated'" in host.sh("cat /etc/default/sandbox")
    assert host.sh("find /srv/sandbox-steward /etc/sandbox ! -user root") == ""
    assert host.sh("ls /etc/rc2.d | grep sandbox-steward")

    pid = host.sh("cat /run/sandbox-steward.pid")
    world.project.fab("setup")
    assert host.sh("cat /run/sandbox-steward.pid") == pid

    world.project.change(
        "deploy/steward/__init__.py", "The steward:", "The good steward:", "the steward is another one"
    )
    world.project.fab("setup")
    assert eventually(lambda: host.sh("cat /run/sandbox-steward.pid") != pid, 30 * BUSY)
    assert host.sh("service sandbox-steward stop; service sandbox-steward status", check=False).endswith("not running")
