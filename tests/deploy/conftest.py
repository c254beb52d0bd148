"""Hosts in namespaces. One is set up and deployed to once a session; tests get copies of its disk."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.deploy.project import FAB
from tests.deploy.world import World
from tests.system.instance import ROOT

sys.path.insert(0, str(ROOT / "deploy"))

PROGRAMS = ("sshd", "nginx", "ip", "unshare", "setpriv")
ADMINISTRATORS = "/usr/local/sbin:/usr/sbin:/sbin"


def _missing() -> str:
    if os.geteuid() != 0:
        return "hosts are made of namespaces, which takes root"
    path = f"{os.environ['PATH']}:{ADMINISTRATORS}"
    missing = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    if missing:
        return f"{', '.join(missing)} is missing; .ci/run lists the packages"
    return "" if FAB.exists() else "`make deploy-tools` has not been called"


def needs_hosts() -> None:
    if reason := _missing():
        pytest.skip(reason)


@pytest.fixture(scope="session")
def disks() -> Iterator[Path]:
    """Not under pytest's own folder: a host's disk is large, and not for keeping."""
    with tempfile.TemporaryDirectory(prefix="sandbox-hosts-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def deployed_once(disks: Path) -> World:
    """A host that was set up and has one release; it is not running."""
    needs_hosts()
    world = World.bare(disks / "once")
    try:
        world.host.boot()
        world.project.fab("setup")
        world.project.fab("deploy")
    finally:
        world.end()
    return world


@pytest.fixture
def make_bare(disks: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., World]]:
    needs_hosts()
    yield from _maker(disks / request.node.name[:60].replace("/", "-"), World.bare, services=False)


@pytest.fixture
def make_world(deployed_once: World, disks: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., World]]:
    """Copies of the host that has a release, running."""

    def copy(folder: Path, hosts: int = 1) -> World:
        return World.copy_of(deployed_once, folder, hosts)

    yield from _maker(disks / request.node.name[:60].replace("/", "-"), copy, services=True)


def _maker(folder: Path, make: Callable[..., World], *, services: bool) -> Iterator[Callable[..., World]]:
    made: list[World] = []

    def maker(hosts: int = 1) -> World:
        world = make(folder, hosts)
        made.append(world)
        for host in world.hosts:
            host.boot(services=services)
        return world

    yield maker
    for world in made:
        world.end()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    return make_world()
