"""Whatever is killed at whatever moment: `current` names a complete release, the service answers, and the next deploy
works without a step by hand."""

import os
import signal
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
    "verify": "verify.py",
    "cleanup": "cleanup",
}
LOADED_SECONDS = 240


def a_new_release(world: World) -> None:
    readme = world.project.folder / "README.md"
    readme.write_text((readme.read_text() if readme.exists() else "") + "more\n")
    world.project.commit("a change")


def begun(world: World, phase: str, output: Path) -> bool:
    """A short phase may be over when it is looked for."""
    return world.host.runs(SCRIPTS.get(phase, phase)) or f" {phase} " in output.read_text()


def kill_in(world: World, phase: str) -> None:
    a_new_release(world)
    output = world.folder / "output"
    fab = world.project.start("deploy", output=output)
    eventually(lambda: begun(world, phase, output) or fab.poll() is not None, LOADED_SECONDS, 0.002)
    assert fab.poll() is None or phase == "cleanup", output.read_text()
    os.kill(fab.pid, signal.SIGKILL)
    fab.wait()


def the_rule_holds(world: World) -> None:
    assert world.host.is_on_a_complete_release
    assert world.serves()


@pytest.mark.slow
def test_fab_is_killed_in_one_phase_after_another(world: World) -> None:
    assert eventually(world.serves, 60)
    for phase in ("install", "switch", "reload", "verify"):
        kill_in(world, phase)
        the_rule_holds(world)
    a_new_release(world)
    world.project.fab("deploy")
    assert world.runs_a_task()


@pytest.mark.slow
@pytest.mark.parametrize("phase", [*SCRIPTS, "build", "migrate"])
def test_fab_is_killed_in_a_phase_and_the_next_deploy_works(phase: str, world: World) -> None:
    assert eventually(world.serves, 60)
    kill_in(world, phase)
    the_rule_holds(world)
    a_new_release(world)
    world.project.fab("deploy")
    the_rule_holds(world)
    assert world.runs_a_task()


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["upload", "install", "config", "warm", "switch", "reload", "verify"])
def test_the_link_is_cut_in_a_phase_and_the_next_deploy_works(phase: str, world: World) -> None:
    assert eventually(world.serves, 60)
    a_new_release(world)
    output = world.folder / "output"
    fab = world.project.start("deploy", output=output)
    eventually(lambda: begun(world, phase, output), LOADED_SECONDS, 0.002)
    world.host.cut()
    assert fab.wait(120) == 1, output.read_text()
    assert world.host.is_on_a_complete_release
    world.host.mend()
    assert eventually(world.serves, 10)
    a_new_release(world)
    world.project.fab("deploy", "--lock-wait", "30")
    the_rule_holds(world)
    assert world.runs_a_task()
