"""SANDBOX_CONTROL_GROUP: whoever is in it reloads the service; nobody else does. Needs root, as an installer has."""

import grp
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.instance import Instance

GROUP = "games"  # of every Debian; a number would do, but the setting takes a name

ASKS = """
import os, socket, sys
os.setgroups([int(group) for group in sys.argv[2].split()]); os.setgid(65534); os.setuid(65534)  # nobody
socket.socket(socket.AF_UNIX).connect(sys.argv[1])
"""


def connects(path: Path, *groups: int) -> bool:
    words = (sys.executable, "-c", ASKS, str(path), " ".join(map(str, groups)))
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


@pytest.fixture
def grouped(make_instance: Callable[..., Instance], folder: Path) -> Instance:
    folder.chmod(0o711)
    instance = make_instance(SANDBOX_CONTROL_GROUP=GROUP, SANDBOX_LOGS=str(folder / "logs"))
    return instance.started()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else: run the tests as root")
def test_members_of_the_control_group_reach_the_control_socket_and_no_other(grouped: Instance) -> None:
    member = grp.getgrnam(GROUP).gr_gid
    sockets = grouped.home / "run"
    assert connects(sockets / "control.sock", member)
    assert not connects(sockets / "control.sock")
    assert not connects(sockets / "redis.sock", member)
    assert not connects(sockets / "events.sock", member)


def test_a_group_that_is_not_there_is_refused_by_name(instance: Instance) -> None:
    refused = instance.run(SANDBOX_CONTROL_GROUP="no-such-group")
    assert refused.returncode == 1
    assert "SANDBOX_CONTROL_GROUP is 'no-such-group'; allowed is the name of a group" in refused.stderr


def test_logs_lie_where_sandbox_logs_says_and_ready_waits(grouped: Instance, folder: Path) -> None:
    ready = grouped.run(sys.executable, "-m", "service.cli", "ready", "--wait", "20")
    assert (ready.returncode, ready.stderr) == (0, "")
    assert {"web.log", "runner.log", "circus.log", "redis.log"} <= {file.name for file in (folder / "logs").iterdir()}
    assert not (grouped.home / "log").exists()


def test_ready_says_what_is_missing(instance: Instance) -> None:
    asked = instance.run(sys.executable, "-m", "service.cli", "ready")
    assert asked.returncode == 1
    assert asked.stderr.startswith(
        f"sandbox: http://127.0.0.1:{instance.port} is not ready: the web workers do not answer"
    )
