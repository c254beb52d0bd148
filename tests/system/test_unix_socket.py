"""The service on a unix socket, as a proxy on the same host uses it."""

import re
import socket
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.servers import eventually
from tests.system.instance import Instance
from tests.system.load import load


@pytest.fixture
def path(folder: Path) -> Path:
    return folder / "w.sock"


@pytest.fixture
def instance(make_instance: Callable[..., Instance], path: Path) -> Instance:
    instance = make_instance(SANDBOX_BIND=f"unix:{path}").start()
    eventually(lambda: "Ctrl-C" in instance.output, 30)
    return instance


def curl(path: Path) -> int:
    words = ("curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket", str(path), "http://x/health/ready")
    return int(subprocess.run(words, capture_output=True, text=True, timeout=10, check=False).stdout)


def test_its_owner_and_its_group_reach_it_and_its_curl_line_works(instance: Instance, path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o770
    assert f"listens on unix:{path}\n" in instance.output
    line = re.search(r"try +(curl .+)", instance.output)
    assert line
    done = subprocess.run(f"{line[1]} -sf", shell=True, capture_output=True, text=True, check=True)
    assert '"type":"echo"' in done.stdout


def test_reloads_and_deaths_leave_it_where_it_is(instance: Instance, path: Path) -> None:
    inode = path.stat().st_ino
    with load(instance):
        for _ in range(2):
            assert instance.circusctl("reload", "sandbox") == "ok\n"
        eventually(instance.is_whole)
    arbiter = min(instance.kinds()["web"])
    subprocess.run(["kill", "-TERM", str(arbiter.pid)], check=True)
    eventually(lambda: not arbiter.alive)
    assert path.stat().st_ino == inode
    eventually(lambda: curl(path) == 200)
    assert instance.stop() == 0
    assert not path.exists()


def test_a_path_that_is_in_use_is_named(instance: Instance, make_instance: Callable[..., Instance], path: Path) -> None:
    refused = make_instance("b").run(SANDBOX_BIND=f"unix:{path}")
    assert refused.returncode == 1
    assert refused.stderr == f"sandbox: SANDBOX_BIND is 'unix:{path}', which is in use. Choose another path.\n"


def test_of_two_that_start_at_once_one_comes_up(make_instance: Callable[..., Instance], path: Path) -> None:
    both = [make_instance(name, SANDBOX_BIND=f"unix:{path}").start() for name in "ab"]
    eventually(lambda: sum(each.is_running() for each in both) == 1, 60)
    [up] = [each for each in both if each.is_running()]
    [refused] = [each for each in both if each is not up]
    assert "in use" in refused.output and "listens on" not in refused.output
    eventually(lambda: "listens on" in up.output, 30)
    assert curl(path) == 200


def test_a_socket_that_nobody_holds_is_replaced_and_a_file_is_not(
    make_instance: Callable[..., Instance], path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
    instance = make_instance(SANDBOX_BIND=f"unix:{path}").start()
    eventually(lambda: curl(path) == 200, 30)
    assert instance.stop() == 0
    path.write_text("mine")
    refused = make_instance("b").run(SANDBOX_BIND=f"unix:{path}")
    assert refused.returncode == 1
    assert "where this user cannot listen" in refused.stderr
    assert path.read_text() == "mine"
