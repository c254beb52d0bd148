"""A deploy by hand: one phase after the other, as a careful operator types them."""

from pathlib import Path

import pytest

from rollout import order
from tests.deploy.world import World
from tests.servers import eventually

SRV = "srv/sandbox"
MIGRATED = "/var/lib/sandbox/migrated"
UNFINISHED = ("link", "config", "migrate", "warm")


class Operator:
    """Types a phase, and looks."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.host = world.host
        self.before = str(world.host.current)

    def phase(self, name: str, *words: str, code: int = 0) -> str:
        said = self.world.project.fab(f"deploy:{name}", *words, code=code)
        assert f'"for": "deploy:{name} on test"' in self._lock.read_text()
        assert self.host.sh(f"flock -n /{SRV}/shared/lock echo free") == "free"
        assert self.host.is_on_a_complete_release
        assert self.world.serves()
        return said

    @property
    def _lock(self) -> Path:
        return self.host.folder / SRV / "shared/lock"

    def twice(self, name: str, *words: str) -> list[str]:
        return [self.phase(name, *words) for _ in range(2)]

    def built(self) -> list[str]:
        return sorted(file.stem for file in (self.world.project.folder / "deploy/.build/releases").glob("*.json"))

    def wheels(self) -> set[str]:
        return {folder.name for folder in (self.host.folder / SRV / "shared/wheels").iterdir()}

    def has(self, file: str, release: str) -> bool:
        return (self.host.folder / SRV / "releases" / release / file).exists()

    def files_are_kept(self, release: str) -> bool:
        return (self.host.folder / "etc/sandbox/next" / f"{release}.json").exists()


@pytest.fixture
def operator(world: World) -> Operator:
    world.project.stage(world.hosts, extra=f'migrate = "echo once >>{MIGRATED}"\n', verify_seconds=1)
    assert eventually(world.serves, 60)
    return Operator(world)


@pytest.mark.slow
def test_a_release_comes_phase_by_phase_and_each_may_be_typed_twice(operator: Operator) -> None:
    host, before = operator.host, operator.before

    assert all(f"current is {before}" in said for said in operator.twice("check"))
    operator.phase("build")
    operator.phase("build")
    release = operator.built()[-1]
    assert host.releases() == {before: "good"}

    there = operator.wheels()
    assert [said.count(" 0 of ") for said in operator.twice("upload")] == [0, 1]
    assert len(operator.wheels() - there) == 1  # the project's
    for name in UNFINISHED:
        assert "no host has an unfinished release" in operator.phase(name, code=1)

    operator.twice("install")
    assert operator.has(".venv/bin/sandbox", release) and not operator.has("package", release)
    assert host.releases() == {before: "good", release: "unfinished"}
    operator.twice("link")
    assert operator.has("package/__init__.py", release)
    operator.twice("config")
    assert operator.files_are_kept(release)
    operator.twice("migrate")
    assert host.sh(f"cat {MIGRATED}").split() == ["once"] * 2
    assert not operator.has(".complete", release)
    assert host.current == before
    operator.phase("warm")
    assert host.releases() == {before: "good", release: "good"}
    assert "no host has an unfinished release" in operator.phase("warm", code=1)
    operator.phase("warm", "--release", release)
    assert "is complete already" in operator.phase("install", "--release", release, code=1)
    assert host.releases() == {before: "good", release: "good"}

    assert host.current == before
    operator.twice("switch")
    assert host.current == release
    assert f"current {release}, serving {before}" in operator.world.project.fab("status", code=1)
    operator.twice("reload")
    assert f"current {release}, serving {release}" in operator.world.project.fab("status")
    assert not operator.has(".verified", release)
    operator.twice("verify")
    assert operator.has(".verified", release)
    assert all("removed nothing" in said for said in operator.twice("cleanup"))
    assert host.releases() == {before: "good", release: "good"}
    assert operator.world.runs_a_task()


@pytest.mark.slow
def test_no_phase_begins_while_somebody_has_the_lock(operator: Operator) -> None:
    """What each does first is to take it."""
    host, lock = operator.host, f"/{SRV}/shared/lock"
    host.sh(f"flock {lock} sleep 600 </dev/null >/dev/null 2>&1 & echo $! >/run/holder")
    for name in order.ALL:
        said = operator.world.project.fab(f"deploy:{name}", "--release", operator.before, code=1)
        assert "has held the lock since" in said and f" {name} " not in said, name
    host.sh("pkill -P $(cat /run/holder); kill $(cat /run/holder) || true")
    operator.phase("check", "--lock-wait", "30")
