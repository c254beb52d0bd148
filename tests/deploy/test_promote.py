"""The chain with the real fab: what was pushed is proved on one host, and the very release goes to another one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.testing import Outcome, run
from service.workspaces.releases import chain
from service.workspaces.releases.chain import Chain
from service.workspaces.releases.clone import OperatorsClone
from service.workspaces.releases.ledger import Ledger
from tests.deploy.broken import unproved
from tests.deploy.host import TestHost
from tests.deploy.project import DOMAIN, ENVIRONMENT, FAB, Project
from tests.deploy.world import World
from tests.servers import eventually

pytestmark = pytest.mark.slow
Make = Callable[..., World]
UID = "a" * 64


class Way:
    """The world's project is the operator's clone; it has an origin, and a stage for each of two hosts."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.project: Project = world.project
        self.staging, self.production = world.hosts
        for name, host in (("staging", self.staging), ("production", self.production)):
            self._stage(name, host)
        self.project.commit("the stages")
        self.origin, self.work = folder / "origin.git", folder / "work"
        self.project.git("clone", "--quiet", "--bare", str(self.project.folder), str(self.origin))
        self.project.git("remote", "add", "origin", str(self.origin))
        self.project.git("clone", "--quiet", str(self.origin), str(self.work))
        (self.project.folder / "deploy" / ".venv").symlink_to(FAB.parents[1])
        self.ledger = Ledger(folder / "releases")
        test = "test -e service/__init__.py"
        self.chain = Chain(
            clone=OperatorsClone(self.project.folder, "main", test, folder / "releases" / "checkout"),
            ledger=self.ledger, first="staging", second="production", lock=folder / "releases" / ".lock",
        )  # fmt: skip

    def _stage(self, name: str, host: TestHost) -> None:
        (self.project.folder / "deploy" / "stages" / f"{name}.toml").write_text(
            f'hosts = ["root@{host.address}"]\nidentity = "{self.project.key}"\nknown_hosts = "../../known_hosts"\n'
            f'domain = "{DOMAIN}"\ncertificate = "/etc/ssl/test.pem"\ncertificate_key = "/etc/ssl/test.key"\n'
            f"verify_seconds = 2\n[environment]\n{ENVIRONMENT}\n"
        )

    def push(self, version: str) -> str:
        """Somebody else commits and pushes; the operator's clone is left as it is."""
        file = self.work / "service" / "__init__.py"
        file.write_text(file.read_text().replace('"0.1.0"', f'"{version}"'))
        self.project.git("-C", str(self.work), "commit", "--quiet", "--all", "--message", version)
        self.project.git("-C", str(self.work), "push", "--quiet", "origin", "main")
        return self.project.git("-C", str(self.work), "rev-parse", "HEAD").strip()

    def do(self, name: str, /, uid: str = UID, **args: Any) -> Outcome:
        [found] = [each.handler for each in chain.types(self.chain) if each.name == name]
        return run(found, args, uid=uid)

    def wish(self, release: str) -> None:
        with self.ledger.locked():
            self.ledger.wish(release, UID, "jo")


def wheels_of(host: TestHost, release: str) -> str:
    return (host.folder / "srv/sandbox/releases" / release / "requirements.txt").read_text()


def test_a_push_is_proved_on_one_host_and_the_very_release_goes_to_the_other(make_world: Make, tmp_path: Path) -> None:
    way = Way(make_world(2), tmp_path)
    before = way.production.current
    sha = way.push("0.2.0")
    outcome = way.do(chain.PROMOTE, sha=sha)
    assert outcome.status == "succeeded", [line.message for line in outcome.logs][-30:]
    release = outcome.result["release"]
    assert release.endswith(sha[:7])
    assert (way.staging.current, way.production.current) == (release, before)
    assert any("verify" in line.message for line in outcome.logs)

    built = sorted((way.project.folder / "deploy" / ".build" / "releases").glob("*.json"))
    way.wish(release)
    brought = way.do(chain.DEPLOY, release=release)
    assert brought.status == "succeeded", [line.message for line in brought.logs][-30:]
    assert way.production.current == release
    assert wheels_of(way.production, release) == wheels_of(way.staging, release)
    assert sorted((way.project.folder / "deploy" / ".build" / "releases").glob("*.json")) == built
    assert way.production.sh("/srv/sandbox/current/.venv/bin/sandbox version") == f"sandbox 0.2.0+g{sha[:7]}"
    assert way.world.runs_a_task(way.production)

    pid = way.production.sh("pgrep -o -f service.cli.serve")
    way.wish(release)  # what serves already is proved, and not touched
    assert way.do(chain.DEPLOY, release=release).status == "succeeded"
    assert way.production.sh("pgrep -o -f service.cli.serve") == pid


@pytest.mark.parametrize("at", ["install.sh", "reload.sh"])
def test_a_deploy_that_was_killed_is_gone_on_with_by_the_same_release(
    make_world: Make, tmp_path: Path, at: str
) -> None:
    way = Way(make_world(2), tmp_path)
    release = way.do(chain.PROMOTE, sha=way.push("0.3.0")).result["release"]
    fab = way.project.start("deploy", "--release", release, output=tmp_path / "killed", stage="production")
    eventually(lambda: way.production.runs(at) or fab.poll() is not None, 120, 0.01)
    fab.kill()
    fab.wait()
    assert way.production.is_on_a_complete_release
    assert eventually(lambda: way.world.serves(way.production), 60)
    way.wish(release)
    outcome = way.do(chain.DEPLOY, release=release)
    assert outcome.status == "succeeded", [line.message for line in outcome.logs][-30:]
    assert way.production.current == release and way.production.releases()[release] == "good"
    assert way.world.runs_a_task(way.production)


def test_what_failed_there_may_be_brought_again_and_what_is_changed_here_may_not(
    make_world: Make, tmp_path: Path
) -> None:
    way = Way(make_world(2), tmp_path)
    before = way.production.current
    release = way.do(chain.PROMOTE, sha=way.push("0.4.0")).result["release"]
    way.wish(release)
    with unproved(way.production):
        assert way.do(chain.DEPLOY, release=release).status == "failed"
    assert way.production.current == before
    way.wish(release)
    outcome = way.do(chain.DEPLOY, release=release)
    assert outcome.status == "succeeded", [line.message for line in outcome.logs][-30:]
    assert way.production.releases()[release] == "good"

    [wheel] = (way.project.folder / "deploy" / ".build" / "wheels").glob(f"*/sandbox-0.4.0*{release[-7:]}*.whl")
    wheel.write_bytes(wheel.read_bytes() + b"x")
    way.wish(release)
    refused = way.do(chain.DEPLOY, release=release)
    wheel.unlink()
    assert refused.error is not None and "is gone or changed" in refused.error.message
