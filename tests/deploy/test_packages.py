"""Task types of a team's own packages, in a release."""

import subprocess
import sys
from pathlib import Path

import pytest

from rollout import packages, stage
from rollout.errors import UsageError
from rollout.pythons import FABS
from tests.deploy.test_stage import GOOD
from tests.deploy.world import World
from tests.servers import eventually

PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "acme-reports"
version = "1.2"
[project.entry-points."sandbox.tasks"]
reports = "acme_reports"
[tool.setuptools]
py-modules = ["acme_reports"]
"""
MODULE = """
from service import Context, task

@task("reports.count")
def count(context: Context, upto: int) -> int:
    return sum(range(upto))
"""


def a_stage(folder: Path, *words: str) -> stage.Stage:
    (folder / "deploy" / "stages").mkdir(parents=True)
    (folder / "deploy" / "deploy.toml").write_text(f"packages = {list(words)!r}\n")
    (folder / "deploy" / "stages" / "qa.toml").write_text(GOOD)
    return stage.read(folder / "deploy", "qa")


def test_pins_are_apart_from_what_is_built_from_a_folder_or_a_commit(tmp_path: Path) -> None:
    commit = f"git+https://example.com/acme.git@{'0a' * 20}"
    found = a_stage(tmp_path, "./reports", "acme-mail[fast]==1.2", commit)
    assert [str(one) for one in packages.pinned(found)] == ["acme-mail[fast]==1.2"]
    assert [one.word for one in packages.from_source(found)] == ["./reports", commit]


@pytest.mark.parametrize("word", ["acme", "acme>=1", "acme==1.*", "git+https://example.com/acme@main", "-r x"])
def test_what_is_not_pinned_is_refused(word: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="packages is"):
        a_stage(tmp_path, word)


def test_a_folder_that_makes_no_wheel_is_named(tmp_path: Path) -> None:
    found = a_stage(tmp_path, "./reports")
    (source := tmp_path / "source" / "reports").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"\./reports in the commit 0123456 has neither"):
        packages.from_source(found)[0].unpacked(source.parent, "0123456789", FABS).__enter__()


def test_what_a_build_requires_and_is_here_is_not_fetched(tmp_path: Path) -> None:
    assert packages.isolation(tmp_path, FABS) == ["--no-build-isolation"]
    (tmp_path / "pyproject.toml").write_text('[build-system]\nrequires = ["no-such-backend-of-acme"]\n')
    assert packages.isolation(tmp_path, FABS) == []


def a_package(world: World) -> None:
    folder = world.project.folder / "reports"
    folder.mkdir()
    (folder / "pyproject.toml").write_text(PYPROJECT)
    (folder / "acme_reports.py").write_text(MODULE)


@pytest.mark.slow
def test_a_task_type_of_the_teams_own_package_runs(world: World) -> None:
    a_package(world)
    world.project.stage(world.hosts, extra='packages = ["./reports"]\n')
    assert "./reports: built anew" in world.project.fab("plan")

    world.project.fab("deploy")

    status, task = world.call("POST", "/tasks", {"type": "reports.count", "args": {"upto": 5}})
    assert status == 201, task
    eventually(lambda: world.call("GET", f"/tasks/{task['uid']}")[1]["status"] == "succeeded", 60)
    assert world.call("GET", f"/tasks/{task['uid']}")[1]["result"] == 10
    pins = world.host.sh("grep acme /srv/sandbox/current/requirements.txt")
    assert pins.startswith("acme_reports==1.2 --hash=sha256:")


@pytest.mark.slow
def test_a_package_whose_requirement_is_not_pinned_stops_the_deploy_before_anything_is_seen(world: World) -> None:
    a_package(world)
    project = world.project.folder / "reports" / "pyproject.toml"
    project.write_text(project.read_text().replace('version = "1.2"', 'version = "1.3"\ndependencies = ["acme-lost"]'))
    world.project.stage(world.hosts, extra='packages = ["./reports"]\n')
    before = world.host.current
    assert "acme-reports 1.3 requires acme-lost, which is not installed" in world.project.fab("deploy", code=1)
    assert world.host.current == before


@pytest.mark.slow
def test_pip_installs_the_service_from_git(world: World) -> None:
    """As a user types it; its requirements are another test's."""
    target = world.folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", target], check=True)
    source = f"git+file://{world.project.folder}"
    subprocess.run([target / "bin/pip", "install", "--quiet", "--no-deps", source], check=True)
    subprocess.run([target / "bin/python", "-c", "import service; service.__version__"], check=True)
    assert (target / "bin" / "sandbox").exists()
