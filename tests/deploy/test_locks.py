"""Two operators at once, and hosts that go the same way together."""

import os
import signal
from collections.abc import Callable

import pytest

from tests.deploy.broken import REFUSES_WHERE_TOLD
from tests.deploy.test_kills import LOADED_SECONDS, a_new_release
from tests.deploy.world import World
from tests.servers import eventually

SLOW = """#!/bin/sh
echo begun >>/home/begun
[ "$2" != sandbox ] || sleep 3
exec /home/groupadd "$@"
"""


@pytest.mark.slow
def test_setups_at_once_of_a_bare_host_wait_for_each_other_and_for_one_whose_client_was_killed(
    make_bare: Callable[..., World],
) -> None:
    world = make_bare()
    home = world.host.folder / "home"
    (home / "slow").write_text(SLOW)
    world.host.sh("cp /usr/sbin/groupadd /home; chmod 755 /home/slow; mount --bind /home/slow /usr/sbin/groupadd")

    killed = world.project.start("setup", output=world.folder / "killed")
    eventually((home / "begun").exists, LOADED_SECONDS)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    setups = {
        name: world.project.start("setup", "--lock-wait", "120", output=world.folder / name) for name in ("one", "two")
    }

    for name, setup in setups.items():
        assert setup.wait(LOADED_SECONDS) == 0, (world.folder / name).read_text()
    assert world.host.sh("id -nG deploy") == "deploy sandbox-control"
    assert world.host.sh("flock -n /run/sandbox-setup.lock stat -c '%U %a' /run/sandbox-setup.lock") == "root 600"
    assert world.host.sh("flock -n /srv/sandbox/shared/lock echo free") == "free"
    assert "written" not in world.project.fab("setup")


@pytest.mark.slow
def test_of_two_deploys_at_once_the_second_is_told_who_has_the_lock_or_waits(world: World) -> None:
    a_new_release(world)
    first = world.project.start("deploy", output=world.folder / "first")
    eventually(lambda: world.host.runs("install.sh"), LOADED_SECONDS)
    refused = world.project.fab("deploy", code=1)
    assert "has held the lock since" in refused and "for: deploy of main on test" in refused
    second = world.project.start("deploy", "--lock-wait", "300", output=world.folder / "second")
    assert first.wait(LOADED_SECONDS) == 0, (world.folder / "first").read_text()
    assert second.wait(LOADED_SECONDS) == 0, (world.folder / "second").read_text()
    assert list(world.host.releases().values()) == ["good", "good", "good"]
    assert world.host.current == max(world.host.releases())


@pytest.mark.slow
@pytest.mark.ci
def test_of_three_hosts_the_second_refuses_so_the_first_goes_back_and_the_third_is_not_touched(
    make_world: Callable[..., World],
) -> None:
    world = make_world(hosts=3)
    before = world.host.current
    (world.hosts[1].folder / "etc/sandbox/refuse").touch()
    world.project.change(
        "service/web/api/health.py", "        found: dict[str, Any] = {}\n", REFUSES_WHERE_TOLD, "picky"
    )

    said = world.project.fab("deploy", code=1, seconds=500)

    assert "refused on purpose" in said
    assert [host.current for host in world.hosts] == [before] * 3
    phases = {
        host: [line.split()[1] for line in said.splitlines() if line.startswith(host.address)] for host in world.hosts
    }
    assert phases[world.hosts[0]][-5:] == ["switch", "reload", "verify", "back", "cleanup"]
    assert phases[world.hosts[2]][-2:] == ["warm", "cleanup"]
    assert all("bad" in host.releases().values() for host in world.hosts)
    assert all(world.runs_a_task(host) for host in world.hosts)
