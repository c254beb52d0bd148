"""A deploy that replaces circusd, and settings that come and go with the release that they were put in place for."""

import os
import re
import subprocess
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from tests.deploy import broken
from tests.deploy.broken import CRASH_SECONDS, CRASHES_LATER, unproved
from tests.deploy.load import Clients
from tests.deploy.test_kills import a_new_release, kill_in
from tests.deploy.world import World
from tests.servers import eventually
from tests.system.instance import ROOT

NEW_SETTINGS = f"timeout 20 /usr/bin/python3 {ROOT / 'deploy/remote/new_settings.py'}"
REMOTE = ROOT / "deploy/remote"
RUNS, STOPPED = 0, 3  # as `service … status` ends
SERVICE = """#!/bin/sh
[ "$2" != status ] || exit {}
echo "this is the $2"
echo "$2" >>"$ROOT/log"
"""
THREADS = 'SANDBOX_THREADS = "3"'


def settings_of_the_service(world: World) -> dict[str, str]:
    environment = world.host.sh('cat "/proc/$(cat /run/sandbox/sandbox.pid)/environ"').split("\0")
    return dict(line.split("=", 1) for line in environment if "=" in line)


def files(world: World) -> list[str]:
    """What `config` may put in place: the settings, and a file that nginx must take."""
    return [
        (world.host.folder / "etc" / name).read_text() for name in ("default/sandbox", "nginx/sites-available/sandbox")
    ]


def processes(world: World) -> str:
    """Of circusd and gunicorn, with the times of their starts."""
    return world.host.sh("ps -o pid=,lstart= -p $(pgrep -d, -u sandbox -f 'sandbox run|service.cli.serve')")


def another_site_and_settings(world: World, *, verify_seconds: int = 2) -> None:
    world.project.stage(world.hosts, environment=THREADS, verify_seconds=verify_seconds)
    world.project.change("deploy/templates/nginx", "server_tokens off;", "server_tokens on;", "another site")


def on_a_host_that_says(folder: Path, status: int, script: str, *words: str, **streams: Any) -> CompletedProcess[str]:
    """A script of deploy/remote, where `service` notes what it is told, and says so."""
    for name, text in {"service": SERVICE.format(status), "runuser": "#!/bin/sh\nexit 1\n"}.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (folder / "current").touch()
    command = ("bash", "--norc", "-euo", "pipefail", "-c", (REMOTE / script).read_text(), script, *words)
    environment = {"ROOT": str(folder), "PATH": f"{folder}:{os.environ['PATH']}", "TMPDIR": str(folder)}
    return subprocess.run(command, env=environment, check=False, text=True, **streams)


GONE_FROM = [
    ("restart.sh", ["anyway"], RUNS, ["stop", "start"]),
    ("reload.sh", [], STOPPED, ["start"]),
    ("stop.sh", [], RUNS, ["stop"]),
]


@pytest.mark.parametrize(("script", "words", "status", "told"), GONE_FROM)
def test_a_client_that_is_gone_ends_no_start_and_no_stop(
    script: str, words: list[str], status: int, told: list[str], tmp_path: Path
) -> None:
    read, write = os.pipe()
    os.close(read)
    on_a_host_that_says(tmp_path, status, script, *words, stdout=write, stderr=write)
    os.close(write)
    assert (tmp_path / "log").read_text().split() == told
    assert (tmp_path / "current").exists() == (script != "stop.sh")
    assert not list(tmp_path.glob("tmp.*"))


@pytest.mark.parametrize(("script", "words", "status", "told"), GONE_FROM)
def test_a_client_that_is_there_is_shown_what_they_print(
    script: str, words: list[str], status: int, told: list[str], tmp_path: Path
) -> None:
    done = on_a_host_that_says(tmp_path, status, script, *words, capture_output=True)
    assert done.returncode == 0
    assert done.stderr.splitlines() == [f"this is the {word}" for word in told]


@pytest.mark.slow
def test_settings_and_circusd_are_replaced_by_a_restart_that_refuses_nobody(world: World) -> None:
    pid = world.host.sh("cat /run/sandbox/sandbox.pid")
    another_site_and_settings(world)
    with Clients(world).at_work() as clients:
        world.project.change("service/supervise/throttle.py", '"""', '"""\n', "another circusd")
        said = world.project.fab("deploy")
        assert re.search(r"a restart is wanted \(.*service/supervise/throttle\.py", said)
        assert "a restart is wanted (settings: SANDBOX_THREADS)" in said
        assert "SANDBOX_THREADS" not in settings_of_the_service(world)

        world.project.fab("restart")
        assert settings_of_the_service(world)["SANDBOX_THREADS"] == "3"
        a_new_release(world)
        assert "a restart is wanted" not in world.project.fab("deploy")

        world.project.stage(world.hosts, environment='SANDBOX_THREADS = "2"')
        said = world.project.fab("deploy", "--restart")
        assert re.search(r"restart +[0-9.]+ s  ok", said)
        assert settings_of_the_service(world)["SANDBOX_THREADS"] == "2"
    clients.all_is_well()
    assert world.host.sh("cat /run/sandbox/sandbox.pid") == pid


def test_every_setting_that_the_service_lacks_is_named(world: World) -> None:
    assert eventually(world.serves, 60)
    assert world.host.sh(NEW_SETTINGS) == ""
    world.host.sh("echo \"SHOP_URL='x'\" >>/etc/default/sandbox; sed -i /SANDBOX_RELOAD/d /etc/default/sandbox")
    assert world.host.sh(NEW_SETTINGS).split() == ["SANDBOX_RELOAD", "SHOP_URL"]
    world.host.sh("cd /run/sandbox; rm sandbox.pid; mkfifo sandbox.pid")
    assert "holds no number" in world.host.run("sh", "-c", NEW_SETTINGS, check=False).stderr


@pytest.mark.slow
def test_a_deploy_that_is_taken_back_takes_its_files_and_settings_with_it(world: World) -> None:
    first, before, environment = world.host.current, files(world), settings_of_the_service(world)
    another_site_and_settings(world, verify_seconds=CRASH_SECONDS + 2)
    broken.commit(world.project, CRASHES_LATER)
    with Clients(world).at_work() as clients:
        for words in (["deploy"], ["deploy", "--restart"]):
            said = world.project.fab(*words, code=1)
            assert re.search(CRASHES_LATER.told, said)
            assert "sites-available/sandbox written, and nginx serves it" in said
            assert (world.host.current, files(world)) == (first, before)
            assert settings_of_the_service(world).get("SANDBOX_THREADS") == environment.get("SANDBOX_THREADS")
    clients.all_is_well()


@pytest.mark.slow
def test_settings_that_the_service_refuses_never_reach_their_place(world: World) -> None:
    before = files(world)
    world.project.stage(world.hosts, environment='SANDBOX_TASKS = "no.such.module"')
    assert "no.such.module" in world.project.fab("deploy", code=1)
    assert files(world) == before

    world.project.fab("setup")
    assert "no.such.module" in files(world)[0]
    said = world.project.fab("restart", code=1)
    assert "no.such.module" in said and "taken back" in said
    assert files(world) == before
    assert world.runs_a_task()


@pytest.mark.slow
def test_what_a_killed_client_never_verified_is_not_gone_back_to(world: World) -> None:
    assert eventually(world.serves, 60)
    first, before = world.host.current, files(world)
    another_site_and_settings(world)
    kill_in(world, "verify")
    unverified = world.host.current
    assert unverified != first and files(world) != before
    broken.commit(world.project, broken.IS_NEVER_READY)

    world.project.fab("deploy", "--lock-wait", "60", code=1)

    assert (world.host.current, files(world)) == (first, before)
    assert world.runs_a_task()
    told = [(line["for"], line["to"], line["outcome"].split(":")[0]) for line in world.host.deploys()[-2:]]
    assert told[0] == ("deploy of main on test", None, "given up")
    assert (told[1][0], told[1][2]) == ("deploy", "taken back")


@pytest.mark.slow
def test_a_restart_that_is_refused_leaves_the_service_as_it_was(world: World) -> None:
    assert eventually(world.serves, 60)
    before, running = files(world), processes(world)
    assert len(running.splitlines()) >= 2
    world.project.stage(world.hosts, environment='REDIS_URL = "redis://127.0.0.1:1/0"')
    world.project.fab("setup")
    assert "REDIS_URL" in files(world)[0]
    said = world.project.fab("restart", code=1)
    assert "REDIS_URL: " in said and "the service goes on as it was" in said and "taken back: " in said
    assert files(world) == before
    assert processes(world) == running

    settings = world.host.folder / "etc/default/sandbox"
    settings.write_text(before[0] + "SANDBOX_THREADS='many'\n")
    world.project.stage(world.hosts)
    a_new_release(world)
    for words in (["restart"], ["deploy", "--restart"]):
        assert "SANDBOX_THREADS is 'many'" in world.project.fab(*words, code=1)
        assert processes(world) == running
    settings.write_text(before[0])
    assert world.runs_a_task()


@pytest.mark.slow
def test_a_restart_that_fails_goes_back_to_what_served_not_to_what_was_switched_to(world: World) -> None:
    assert eventually(world.serves, 60)
    switched = str(world.host.current)
    a_new_release(world)
    world.project.fab("deploy")
    serving = str(world.host.current)
    world.project.fab("deploy:switch", "--release", switched)
    assert world.host.current == switched
    with unproved(world.host):
        assert f"to {serving}" in world.project.fab("restart", code=1)
    assert world.host.current == serving
    assert world.runs_a_task()


@pytest.mark.slow
def test_what_setup_has_put_there_is_undone_by_no_rollback_and_no_deploy_that_fails(world: World) -> None:
    assert eventually(world.serves, 60)
    a_new_release(world)
    world.project.fab("deploy")
    second = world.host.current

    world.project.stage(world.hosts, environment='SANDBOX_THREADS = "3"')
    world.project.fab("setup")
    with unproved(world.host):
        world.project.fab("rollback", code=1)
    assert world.host.current == second
    assert "SANDBOX_THREADS='3'" in files(world)[0]

    world.project.stage(world.hosts, environment='SANDBOX_THREADS = "4"')
    kill_in(world, "verify")
    assert "SANDBOX_THREADS='4'" in files(world)[0]
    world.project.stage(world.hosts, environment='SANDBOX_THREADS = "5"')
    world.project.fab("setup", "--lock-wait", "60")
    a_new_release(world)
    with unproved(world.host):
        world.project.fab("deploy", code=1)
    assert world.host.current == second
    assert "SANDBOX_THREADS='5'" in files(world)[0]


@pytest.mark.slow
def test_a_release_that_served_well_is_not_bad_if_it_cannot_be_brought_again_and_may_come_with_a_restart(
    world: World,
) -> None:
    first = str(world.host.current)
    a_new_release(world)
    world.project.fab("deploy")
    second = str(world.host.current)
    good = (world.project.folder / "deploy/templates/nginx").read_text()
    world.project.change("deploy/templates/nginx", "server_tokens off;", "server_tokens perhaps;", "a bad site")
    assert "nginx refuses the site" in world.project.fab("deploy", "--release", first, code=1)
    assert world.host.releases() == {first: "good", second: "good"}

    (world.project.folder / "deploy/templates/nginx").write_text(good)
    world.project.stage(world.hosts, environment=THREADS)
    world.project.fab("setup")
    world.project.fab("deploy", "--release", second)
    assert "SANDBOX_THREADS" not in settings_of_the_service(world)
    world.project.fab("deploy", "--release", second, "--restart")
    assert settings_of_the_service(world)["SANDBOX_THREADS"] == "3"
