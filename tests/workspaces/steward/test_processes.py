"""Whom a signal reaches, and for how long root waits for a process of somebody else's."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest

from steward import as_user
from steward.cage import end_cage, kill_cage
from steward.errors import Refused
from steward.processes import parent_of, send

UID = 200_001


@pytest.fixture
def bystander() -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(["sleep", "600"])
    yield process
    process.kill()
    process.wait()


def test_who_has_the_number_of_a_cage_that_has_ended_is_not_killed(bystander: "subprocess.Popen[bytes]") -> None:
    ended = subprocess.Popen(["true"])
    ended.wait()
    ended.pid = bystander.pid
    end_cage(ended)
    kill_cage(ended)
    with pytest.raises(subprocess.TimeoutExpired):
        bystander.wait(0.2)


def test_a_signal_reaches_only_who_is_meant(bystander: "subprocess.Popen[bytes]") -> None:
    assert parent_of(bystander.pid) == os.getpid()
    assert not send(bystander.pid, signal.SIGKILL, lambda: False)
    assert bystander.poll() is None
    assert send(bystander.pid, signal.SIGKILL, lambda: True)
    assert bystander.wait() == -signal.SIGKILL
    assert not send(bystander.pid, signal.SIGKILL, lambda: True)
    assert parent_of(bystander.pid) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes others")
def test_who_is_stopped_while_root_waits_is_waited_for_only_so_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(as_user, "AS_USER_SECONDS", 1)
    assert as_user.as_user(UID, os.getuid) == UID
    with pytest.raises(Refused, match="too long"):
        as_user.as_user(UID, lambda: os.kill(os.getpid(), signal.SIGSTOP))
    with pytest.raises(Refused, match="too long"):
        as_user.as_user(UID, lambda: time.sleep(600))
    with pytest.raises(Refused, match="ended"):
        as_user.as_user(UID, lambda: os.kill(os.getpid(), signal.SIGKILL))
