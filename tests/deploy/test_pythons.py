"""Hosts with another Python than fab's: by which one wheels are made."""

import json
import os
import subprocess
import sysconfig
from pathlib import Path

import pytest

from rollout import pythons
from rollout.errors import DeployError
from rollout.pythons import Python
from tests.deploy.world import World
from tests.pythons import pythons as of_this_machine

VERSION = "import sys; print(*sys.version_info[:2])"
STRANGE = Python("3.99", sysconfig.get_platform())


def test_a_python_that_is_not_here_is_named_though_its_name_is_in_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeployError, match=r"wheels for Python 3\.99 .* fab runs on Python 3\..*no python3\.99 "):
        pythons.program(STRANGE)
    shim = tmp_path / "python3.99"
    shim.write_text("#!/bin/sh\nexit 127\n")
    shim.chmod(0o755)
    with pytest.raises(DeployError, match=r"no python3\.99 "):
        pythons.program(STRANGE)


def test_the_hosts_of_a_stage_have_the_same_python() -> None:
    alike = {"a": STRANGE, "b": STRANGE}
    assert pythons.common(alike) == STRANGE
    assert pythons.difference(alike) == pythons.difference({}) == ""
    with pytest.raises(DeployError, match=r"a has Python 3\.99 .*, c has Python 3\.98 \(x\)"):
        pythons.common({**alike, "c": Python("3.98", "x")})


def test_a_release_goes_to_hosts_with_the_python_that_it_was_built_for_only(world: World) -> None:
    release = str(world.host.current)
    file = world.project.folder / "deploy" / ".build" / "releases" / f"{release}.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"python": str(STRANGE)}))
    said = world.project.fab("deploy", "--release", release, code=1)
    assert f"{release} was built for Python 3.99" in said and "install" not in said


@pytest.mark.slow
def test_a_host_gets_wheels_for_the_python_that_its_stage_names(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one than that of fab and of the release before, if another one is here."""
    before = world.host.current
    another = Path(of_this_machine()[1])
    world.host.lend(base(another))
    world.project.stage(world.hosts, extra=f'python = "{another}"\n')
    monkeypatch.setenv("PATH", f"{another.parent}:{os.environ['PATH']}")

    world.project.fab("deploy")

    python = world.host.sh(f"/srv/sandbox/current/.venv/bin/python -c '{VERSION}'")
    assert python == world.host.sh(f"{another} -c '{VERSION}'")
    assert world.runs_a_task()
    world.project.fab("rollback")
    assert world.host.current == before and world.runs_a_task()


def base(program: Path) -> Path:
    words = [program, "-I", "-c", "import sys; print(sys.base_prefix)"]
    return Path(subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip())
