"""Ctrl-C in the middle: what was under way ends first, then it is taken back, and nothing interrupts that."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from rollout import beside, interrupts
from rollout.beside import side_by_side
from tests.deploy.test_kills import LOADED_SECONDS, a_new_release
from tests.deploy.test_tasks import team
from tests.deploy.world import World
from tests.servers import eventually
from tests.system.instance import ROOT

SLOW = """
import time
from pathlib import Path

def before_switch(host):
    Path({begun!r}).touch()
    time.sleep(4)
"""

PRINTS = """
import signal, sys
from rollout import interrupts, report
report.line("host", "back", "to what served")
report.warning("fab: it failed")
with interrupts.held():
    signal.raise_signal(signal.SIGINT)
sys.exit(3)
"""


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_what_is_interrupted_is_waited_for_and_told_that_it_is_too_late() -> None:
    seen: list[str] = []
    both = threading.Barrier(2)

    def work(host: str) -> None:
        assert not beside.is_too_late()
        both.wait(60)
        if host == "a":
            interrupt()
        eventually(beside.is_too_late, 60)
        seen.append(host)

    with pytest.raises(KeyboardInterrupt):
        side_by_side(["a", "b"], work)
    assert sorted(seen) == ["a", "b"]
    assert not beside.is_too_late()
    assert side_by_side(["c"], str) == {"c": "c"}


def test_what_is_interrupted_twice_is_not_waited_for() -> None:
    over, ended = threading.Event(), threading.Event()

    def work(_: str) -> None:
        interrupt()
        eventually(beside.is_too_late, 60)
        interrupt()
        over.wait(60)
        ended.set()

    with pytest.raises(KeyboardInterrupt):
        side_by_side(["a"], work)
    assert not ended.is_set()
    over.set()
    assert ended.wait(60)


def test_while_something_is_taken_back_an_interrupt_is_told_and_held(capfd: pytest.CaptureFixture[str]) -> None:
    with interrupts.held():
        interrupt()
    assert "this is taken back first" in capfd.readouterr().err
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_command_that_nobody_reads_goes_on_to_its_own_exit_code() -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-c", PRINTS]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "deploy")}
    assert subprocess.run(command, stdout=write, stderr=write, env=environment, check=False).returncode == 3
    os.close(write)


@pytest.mark.slow
def test_a_deploy_that_nobody_reads_any_more_is_taken_back_all_the_same(world: World) -> None:
    assert eventually(world.serves, 60)
    first = world.host.current
    world.project.stage(world.hosts, extra='verify_task = "no-such-type"\n')
    fab = subprocess.Popen(
        world.project.fab_command("deploy"), cwd=world.project.folder, env=world.project.environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert fab.stdout is not None
    eventually(lambda: " switch " in str(fab.stdout and fab.stdout.readline()), LOADED_SECONDS, 0)
    fab.stdout.close()
    assert fab.wait(LOADED_SECONDS) == 1
    assert world.host.deploys()[-1]["outcome"].startswith("taken back: ")
    assert world.host.current == first
    assert f"current {first}, serving {first}" in world.project.fab("status")
    assert sorted(world.host.releases().values()) == ["bad", "good"]


@pytest.mark.slow
def test_a_deploy_that_is_interrupted_twice_switches_no_more_and_is_taken_back(world: World) -> None:
    assert eventually(world.serves, 60)
    first, begun, output = world.host.current, world.folder / "begun", world.folder / "output"
    team(world, SLOW.format(begun=str(begun)))
    a_new_release(world)
    fab = world.project.start("deploy", output=output)
    eventually(begun.exists, LOADED_SECONDS)
    fab.send_signal(signal.SIGINT)
    eventually(lambda: "is waited for" in output.read_text() or fab.poll() is not None, LOADED_SECONDS)
    eventually(lambda: world.host.runs("reload.sh") or fab.poll() is not None, LOADED_SECONDS, 0.01)
    fab.send_signal(signal.SIGINT)
    assert fab.wait(LOADED_SECONDS) == 1
    assert "taken back: " in output.read_text() and "this is taken back first" in output.read_text()
    assert world.host.current == first
    assert f"current {first}, serving {first}" in world.project.fab("status")
    assert sorted(world.host.releases().values()) == ["bad", "good"]
    assert world.runs_a_task()
