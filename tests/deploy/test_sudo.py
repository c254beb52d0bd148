"""Hosts that are reached as an ordinary user, who becomes root by sudo."""

import shlex
import subprocess

import pytest

from tests.deploy.project import FAB
from tests.deploy.test_kills import LOADED_SECONDS, a_new_release
from tests.deploy.world import World, who_showed
from tests.servers import eventually

PASSWORD = "sentinelPassw0rd"


def operator(world: World, rule: str) -> None:
    """Every host has a user `op`, who may do all by sudo."""
    for host in world.hosts:
        host.sh("useradd --create-home --shell /bin/bash op")
        host.sh(f"echo op:{PASSWORD} | chpasswd")
        host.sh(f"echo 'op ALL=(ALL) {rule}' >/etc/sudoers.d/op; chmod 440 /etc/sudoers.d/op")
    world.project.stage(world.hosts, user="op")


@pytest.mark.slow
def test_a_host_is_set_up_and_deployed_to_by_a_user_with_sudo(world: World) -> None:
    operator(world, "NOPASSWD: ALL")
    first = world.host.current
    world.project.fab("setup")
    world.project.fab("deploy")
    assert world.host.current != first and world.runs_a_task()


@pytest.mark.slow
def test_a_killed_fab_frees_the_lock_that_sudo_holds(world: World) -> None:
    operator(world, "NOPASSWD: ALL")
    a_new_release(world)
    fab = world.project.start("deploy", output=world.folder / "output")
    eventually(lambda: world.host.runs("install.sh"), LOADED_SECONDS, 0.002)
    fab.kill()
    fab.wait()
    world.project.fab("deploy", "--lock-wait", "30")


def test_a_password_for_sudo_is_asked_for_once_and_shown_nowhere(world: World) -> None:
    operator(world, "ALL")
    command = shlex.join([str(FAB), *world.project.fab_command("lock", "until Monday")[1:]])
    output = world.folder / "output"
    with output.open("wb") as file:
        fab = subprocess.Popen(
            ["script", "--quiet", "--return", "--flush", "--command", command, "/dev/null"],
            cwd=world.project.folder,
            env=world.project.environment,
            stdin=subprocess.PIPE,
            stdout=file,
        )
    assert fab.stdin is not None
    eventually(lambda: "password for sudo on the hosts: " in output.read_text(), LOADED_SECONDS)
    fab.stdin.write(f"{PASSWORD}\n".encode())
    fab.stdin.flush()
    seen = who_showed(PASSWORD, fab)
    fab.stdin.close()
    said = output.read_text()
    assert fab.returncode == 0, said
    assert said.count("password for sudo") == 1 and PASSWORD not in said
    assert seen == set()
    assert "until Monday" in (world.host.folder / "srv/sandbox/shared/frozen").read_text()
    found = world.host.sh(f"grep -rl {PASSWORD} /etc /srv/sandbox/shared /var/log /run /home 2>/dev/null", check=False)
    assert found == ""


def test_what_sudo_says_of_a_wrong_password_is_told(world: World) -> None:
    operator(world, "ALL")
    said = world.project.fab("status", code=1, typed="wrong\n")
    assert f"{world.host.address}: op cannot become root; sudo says:" in said and "incorrect password" in said
    assert "wrong" not in said
    assert "no terminal is there to ask for it" in world.project.fab("status", code=1)
    world.project.fab("deploy:check", typed=f"{PASSWORD}\n")
