"""Whatever is killed at whatever moment: `current` names a complete release, the service answers, and the next deploy
works without a step by hand."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.deploy.world import World
from tests.servers import eventually

# The script that tells on the host that a phase has begun.
SCRIPTS = {
    "check": "facts.py",
    "upload": "upload.sh",
    "install": "install.sh",
    "link": "link.sh",
    "config": "place.py",
    "warm": "as_service.sh",
    "switch": "switch.sh",
    "reload": "reload.sh",
    "restart": "restart.sh",
    "verify": "verify.py",
    "cleanup": "cleanup",
}
LOADED_SECONDS = 240
LOOK_SECONDS = 0.005


@pytest.fixture(scope="module")
def survivor(make_worlds: Callable[..., World]) -> World:
    """One host for all: what is left behind by one kill is what the next deploy finds."""
    world = make_worlds()
    world.project.stage(world.hosts, verify_seconds=1)
    assert eventually(world.serves, 60)
    return world


@pytest.fixture
def host(survivor: World) -> Iterator[World]:
    yield survivor
    survivor.host.mend()


def a_new_release(world: World) -> None:
    readme = world.project.folder / "README.md"
    readme.write_text((readme.read_text() if readme.exists() else "") + "more\n")
    world.project.commit("a change")


def begun(world: World, phase: str, output: Path) -> bool:
    """A short phase may be over when it is looked for."""
    return world.host.runs(SCRIPTS.get(phase, phase)) or f" {phase} " in output.read_text()


def a_deploy_in(world: World, phase: str) -> "subprocess.Popen[bytes]":
    a_new_release(world)
    output = world.folder / "output"
    fab = world.project.start("deploy", *(["--restart"] if phase == "restart" else []), output=output)
    eventually(lambda: begun(world, phase, output) or fab.poll() is not None, LOADED_SECONDS, LOOK_SECONDS)
    assert fab.poll() is None or phase == "cleanup", output.read_text()
    return fab


def kill_in(world: World, phase: str) -> None:
    fab = a_deploy_in(world, phase)
    os.kill(fab.pid, signal.SIGKILL)
    fab.wait()


def the_rule_holds(world: World) -> None:
    assert world.host.is_on_a_complete_release
    assert world.serves()


def the_next_deploy_works(world: World) -> None:
    a_new_release(world)
    world.project.fab("deploy", "--lock-wait", "30")
    the_rule_holds(world)
    assert world.host.current == max(world.host.releases())
    assert world.runs_a_task()


@pytest.mark.slow
@pytest.mark.ci
def test_fab_is_killed_in_one_phase_after_another(world: World) -> None:
    assert eventually(world.serves, 60)
    for phase in ("install", "switch", "reload", "verify"):
        kill_in(world, phase)
        the_rule_holds(world)
    the_next_deploy_works(world)
    outcomes = [line["outcome"].partition(":")[0] for line in world.host.deploys()]
    assert outcomes[-5:] == ["given up"] * 4 + ["done"]


@pytest.mark.slow
@pytest.mark.parametrize("phase", [*SCRIPTS, "build", "migrate"])
def test_fab_is_killed_in_a_phase_and_the_next_deploy_works(phase: str, host: World) -> None:
    kill_in(host, phase)
    the_rule_holds(host)
    the_next_deploy_works(host)


@pytest.mark.slow
def test_fab_that_is_told_to_end_takes_back_what_it_has_begun(host: World) -> None:
    """As where a run of CI is cancelled."""
    before = host.host.current
    a_new_release(host)
    output = host.folder / "output"
    fab = host.project.start("deploy", output=output)
    eventually(lambda: begun(host, "verify", output), LOADED_SECONDS, LOOK_SECONDS)
    fab.terminate()
    assert fab.wait(LOADED_SECONDS) == 1
    assert "ended by SIGTERM" in output.read_text() and "taken back: " in output.read_text()
    assert host.host.current == before
    the_rule_holds(host)


@pytest.mark.slow
@pytest.mark.parametrize("phase", [*SCRIPTS, "build", "migrate"])
def test_the_link_is_cut_in_a_phase_and_the_next_deploy_works(phase: str, host: World) -> None:
    fab = a_deploy_in(host, phase)
    host.host.cut()
    assert fab.wait(120) == 1 or phase == "cleanup", (host.folder / "output").read_text()
    assert host.host.is_on_a_complete_release
    host.host.mend()
    assert eventually(host.serves, 10)
    the_next_deploy_works(host)
