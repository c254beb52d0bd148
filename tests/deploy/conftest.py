"""Hosts in namespaces. One is set up and deployed to once a run; tests get copies of its disk."""

import fcntl
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

PROGRAMS = ("sshd", "nginx", "ip", "unshare", "setpriv", "sudo")
ADMINISTRATORS = "/usr/local/sbin:/usr/sbin:/sbin"


def _missing() -> str:
    if os.geteuid() != 0:
        return "hosts are made of namespaces, which takes root"
    path = f"{os.environ['PATH']}:{ADMINISTRATORS}"
    missing = [program for program in PROGRAMS if shutil.which(program, path=path) is None]
    return f"{', '.join(missing)} is missing; .ci/run lists the packages" if missing else ""


def needs_fab() -> None:
    if not FAB.exists():
        pytest.skip("`make deploy-tools` has not been called")


def needs_namespaces() -> None:
    if reason := _missing():
        pytest.skip(reason)


def needs_hosts() -> None:
    """To be deployed to."""
    needs_namespaces()
    needs_fab()


@pytest.fixture(scope="session")
def disks() -> Iterator[Path]:
    """Not under pytest's own folder: a host's disk is large, and not for keeping."""
    with tempfile.TemporaryDirectory(prefix="sandbox-hosts-") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def run_folder() -> Iterator[Path]:
    """What all processes of this run share; the last one removes it."""
    folder = Path(tempfile.gettempdir(), f"sandbox-host-{os.environ.get('PYTEST_XDIST_TESTRUNUID', os.getpid())}")
    folder.mkdir(exist_ok=True)
    with (folder / "users").open("w") as users:
        fcntl.flock(users, fcntl.LOCK_SH)
        yield folder
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def deployed_once(run_folder: Path) -> World:
    """A host that was set up and has one release; it is not running."""
    needs_hosts()
    with (run_folder / "making").open("w") as making:
        fcntl.flock(making, fcntl.LOCK_EX)
        if (run_folder / "made").exists():
            return World.of_another_process(run_folder / "once")
        shutil.rmtree(run_folder / "once", ignore_errors=True)  # of a process that has failed
        world = World.bare(run_folder / "once")
        try:
            world.host.boot()
            world.project.fab("setup")
            world.project.fab("deploy")
        finally:
            world.end()
        (run_folder / "made").touch()
    return world


@pytest.fixture
def make_bare(disks: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., World]]:
    needs_hosts()
    yield from _maker(disks / request.node.name[:60].replace("/", "-"), World.bare, services=False)


@pytest.fixture
def make_world(deployed_once: World, disks: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., World]]:
    """Copies of the host that has a release, running."""
    yield from _copies(deployed_once, disks / request.node.name[:60].replace("/", "-"))


@pytest.fixture(scope="module")
def make_worlds(deployed_once: World, disks: Path, request: pytest.FixtureRequest) -> Iterator[Callable[..., World]]:
    """The same, for all tests of a module."""
    yield from _copies(deployed_once, disks / Path(request.node.name).stem)


def _copies(of: World, folder: Path) -> Iterator[Callable[..., World]]:
    def copy(folder: Path, hosts: int = 1) -> World:
        return World.copy_of(of, folder, hosts)

    yield from _maker(folder, copy, services=True)


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
