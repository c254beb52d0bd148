"""With what code a child of circusd has ended, whoever hears of it first."""

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from circus.arbiter import Arbiter
from circus.process import Process

from service.supervise.reaping import reap_processes
from tests.servers import eventually


class Watcher:
    def __init__(self, *, counted: list[Process] = (), on_trial: list[Process] = ()) -> None:  # type: ignore[assignment]
        self.processes = {process.pid: process for process in counted}
        self.on_trial_now = list(on_trial)
        self.reaped: list[tuple[int, int]] = []

    def is_stopped(self) -> bool:
        return False

    def reap_process(self, pid: int, status: int) -> None:
        self.reaped.append((pid, status))


def ended(code: int) -> Process:
    """A child of ours that has ended, and whose code nobody has read."""
    process = Process(
        "name", 1, f"{sys.executable} -c 'raise SystemExit({code})'", pipe_stdout=False, pipe_stderr=False
    )
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    return process


def arbiter(*watchers: Watcher) -> Any:
    return SimpleNamespace(iter_watchers=lambda: watchers)


def test_the_code_of_a_process_on_trial_is_left_to_its_trial() -> None:
    on_trial, counted = ended(7), ended(3)
    watcher = Watcher(counted=[counted], on_trial=[on_trial])
    reap_processes(None)(arbiter(watcher))
    assert [(pid, os.waitstatus_to_exitcode(status)) for pid, status in watcher.reaped] == [(counted.pid, 3)]
    assert not on_trial.is_alive() and on_trial.returncode() == 7
    assert not counted.is_alive() and counted.returncode() == 0, "its code has been told"


def test_a_child_with_the_pid_of_one_that_has_ended_before_is_waited_for() -> None:
    child = ended(5)
    earlier = SimpleNamespace(pid=child.pid, is_alive=lambda: False)
    reap_processes(None)(arbiter(Watcher(on_trial=[earlier])))  # type: ignore[list-item]
    with pytest.raises(ChildProcessError):
        os.waitpid(child.pid, os.WNOHANG)
    assert not child.is_alive()


def test_stock_circus_drops_it() -> None:
    on_trial = ended(7)
    Arbiter.reap_processes(arbiter(Watcher(on_trial=[on_trial])))
    assert not on_trial.is_alive() and on_trial.returncode() == 0


def test_a_stranger_s_child_is_waited_for_and_what_lives_is_left_alone() -> None:
    stranger = subprocess.Popen([sys.executable, "-c", ""])
    lives = Process("name", 1, "sleep 600", pipe_stdout=False, pipe_stderr=False)
    os.waitid(os.P_PID, stranger.pid, os.WEXITED | os.WNOWAIT)
    reap_processes(None)(arbiter(Watcher(on_trial=[lives])))
    with pytest.raises(ChildProcessError):
        os.waitpid(stranger.pid, os.WNOHANG)
    assert lives.is_alive()
    lives.stop()
    eventually(lambda: not lives.is_alive())
    stranger.wait()
