"""What other users may do with the service: members of SANDBOX_CONTROL_GROUP look at it and reload it; only the
service's own user restarts it. Needs root, as an installer has.
"""

import grp
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.system.instance import SANDBOX, Instance

GROUP = "games"  # of every Debian; a number would do, but the setting takes a name
NOBODY = 65534
AS_NOBODY = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}")
FINDS_PYTHON = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")  # wherever root has it
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else: run the tests as root")

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


@needs_root
def test_members_of_the_control_group_reach_the_control_socket_and_no_other(grouped: Instance) -> None:
    member = grp.getgrnam(GROUP).gr_gid
    sockets = grouped.home / "run"
    assert connects(sockets / "control.sock", member)
    assert not connects(sockets / "control.sock")
    assert not connects(sockets / "redis.sock", member)
    assert not connects(sockets / "events.sock", member)


@needs_root
def test_a_member_sees_the_status_and_reloads_but_does_not_restart(grouped: Instance) -> None:
    member = (*AS_NOBODY, f"--groups={grp.getgrnam(GROUP).gr_gid}", *SANDBOX)
    seen = grouped.run(*member, "status")
    assert (seen.returncode, seen.stderr) == (0, "") and f"process {grouped.pid}" in seen.stdout
    reloaded = grouped.run(*member, "reload", "web")
    assert (reloaded.returncode, reloaded.stderr) == (0, "") and " serves, after " in reloaded.stdout
    refused = grouped.run(*member, "restart")
    assert refused.returncode == 4
    assert refused.stderr == "sandbox: only root, as whom the service runs, can restart it. Nothing has changed.\n"


@needs_root
def test_root_does_not_restart_what_another_user_runs_and_is_not_in_that_ones_way(instance: Instance) -> None:
    os.chown(instance.home.parent, NOBODY, NOBODY)
    instance.home.parent.parent.chmod(0o711)
    nobody = (*AS_NOBODY, "--clear-groups", *FINDS_PYTHON, *SANDBOX)
    instance.started(*nobody, "run")
    refused = instance.run(*SANDBOX, "restart")
    assert refused.returncode == 4
    assert refused.stderr == "sandbox: only nobody, as whom the service runs, can restart it. Nothing has changed.\n"
    restarted = instance.run(*nobody, "restart")
    assert (restarted.stdout, restarted.stderr) == ("sandbox has been restarted\n", "")
    assert instance.stop() == 0
    instance.is_gone()


@needs_root
def test_who_may_not_enter_at_all_is_told_at_a_restart(grouped: Instance) -> None:
    refused = grouped.run(*AS_NOBODY, "--clear-groups", *SANDBOX, "restart")
    assert refused.returncode == 4 and "is closed to you" in refused.stderr


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
