"""From a bare host to a rollback, as an operator types it, on real hosts."""

import json
import shlex
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.host import TestHost
from tests.deploy.world import World
from tests.servers import eventually
from tests.system.instance import ROOT

Make = Callable[..., World]
LOCK = Path("srv/sandbox/shared/lock")  # names its last holder
AS_DEPLOY = "runuser -u deploy -- sh -euc 'cd /srv/sandbox; mv {0} {0}.away; ln -s {1} {0}'"
PLACE = ROOT / "deploy/remote/place.py"
FSYNC_SECONDS = 1.5  # Redis has written down by then what it has acknowledged
OF_OTHERS = "by a file that is not deploy's"
FACTS = ROOT / "deploy/remote/facts.py"
POSES = """exec python3 -c 'import time; print(flush=True); time.sleep(600)' {0} -m service.cli.serve"""


def files_of(host: TestHost) -> dict[Path, int]:
    folders = [host.folder / name for name in ("etc", "srv", "home")]
    return {path: path.lstat().st_mtime_ns for folder in folders for path in folder.rglob("*")}


def facts(host: TestHost) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(host.sh(f"ROOT=/srv/sandbox timeout 20 /usr/bin/python3 -I {FACTS}"))
    return found


def test_a_bare_host_is_set_up_and_serves_and_a_second_setup_changes_nothing(make_bare: Make) -> None:
    world = make_bare()
    world.project.fab("setup")
    assert world.host.sh("stat -c '%U %a %s' /var/lib/sandbox/tokens") == "sandbox 600 0"
    before = files_of(world.host)
    world.project.fab("setup")
    changed = {path for path, time in files_of(world.host).items() if before.get(path) != time}
    assert {path.relative_to(world.host.folder) for path in changed} == {LOCK}

    said = world.project.fab("deploy")
    assert "was not running; started" in said
    assert world.runs_a_task()
    assert "sandbox" in world.host.sh("ls /etc/rc2.d")


def test_a_deploy_and_a_rollback(world: World) -> None:
    first = world.host.current
    sha = world.project.change("service/__init__.py", '"0.1.0"', '"0.2.0"', "a new version")
    world.project.fab("deploy")
    second = world.host.current
    assert second is not None and second.endswith(sha[:7]) and second > str(first)
    assert world.host.sh("/srv/sandbox/current/.venv/bin/sandbox version") == f"sandbox 0.2.0+g{sha[:7]}"
    assert f"current {second}, serving {second}" in world.project.fab("status")

    world.project.fab("rollback")
    assert world.host.current == first
    assert world.host.releases() == {first: "good", second: "bad"}
    assert world.runs_a_task()

    refused = world.project.fab("rollback", code=1)
    assert "no older good release" in refused
    assert world.host.current == first
    lines = (world.host.folder / "srv/sandbox/shared/deploys.jsonl").read_text().splitlines()
    assert [(line["for"], line["outcome"]) for line in map(json.loads, lines)][-2:] == [
        ("deploy", "done"),
        ("rollback", "done"),
    ]


@pytest.mark.slow
def test_a_rollback_goes_to_the_release_that_is_named_and_may_keep_what_it_leaves_good(world: World) -> None:
    first = str(world.host.current)
    for text in ("two", "three"):
        world.project.commit(text)
        world.project.fab("deploy")
    third = str(world.host.current)
    world.project.fab("rollback", "--to", first, "--keep-good")
    assert world.host.current == first
    assert list(world.host.releases().values()) == ["good"] * 3
    world.project.fab("rollback", "--to", third)  # forward, too
    assert (world.host.current, world.host.releases()[first]) == (third, "bad")
    assert world.runs_a_task()


@pytest.mark.slow
def test_a_release_of_somebody_whose_clock_is_ahead_is_not_the_newest_for_long(world: World) -> None:
    first = world.host.current
    world.host.sh("runuser -u deploy -- mkdir /srv/sandbox/releases/20990101T000000-0a1b2c3")
    sha = world.project.commit("two")
    world.project.fab("deploy")
    assert world.host.current == f"20990101T000001-{sha[:7]}"
    world.project.fab("rollback")
    assert world.host.current == first


@pytest.mark.slow
def test_of_deploys_that_fail_in_a_row_the_newest_stays_as_evidence(world: World) -> None:
    for text in ("one", "another"):
        world.project.change("service/web/app.py", "\nfrom ", f'\nraise ImportError("{text}")\nfrom ', text)
        assert "warm" in world.project.fab("deploy", code=1)
    assert list(world.host.releases().values()) == ["good", "bad"]


@pytest.mark.slow
def test_a_host_that_lost_its_power_serves_again(world: World) -> None:
    assert eventually(world.serves, 60)
    task = world.call("POST", "/tasks", {"type": "echo"})[1]
    path = f"/tasks/{task['uid']}"
    eventually(lambda: world.call("GET", path)[1]["status"] == "succeeded", 60)
    time.sleep(FSYNC_SECONDS)
    world.host.kill()
    world.host.boot(services=True)
    assert eventually(world.serves, 60)
    assert world.call("GET", path)[1]["status"] == "succeeded"
    assert world.runs_a_task()


@pytest.mark.slow
def test_a_restart_takes_new_settings_and_logs_are_shown(world: World) -> None:
    before = world.host.sh("cat /run/sandbox/sandbox.pid")
    world.project.stage(world.hosts, environment='SANDBOX_THREADS = "3"')
    world.project.fab("setup")
    for seconds in (8, 10):  # the runners of before leave when these have ended: perhaps in the middle of the proof
        world.call("POST", "/tasks", {"type": "sleep", "args": {"seconds": seconds}})
    world.project.fab("restart")
    after = world.host.sh("cat /run/sandbox/sandbox.pid")
    assert after == before  # it took over, and refused nobody
    assert "SANDBOX_THREADS=3" in world.host.sh(f"tr '\\0' '\\n' </proc/{after}/environ").split()
    assert "runner.log: " in world.project.fab("logs", "--lines", "2")


def test_root_follows_no_link_of_deploys(world: World) -> None:
    host, etc = world.host, world.host.folder / "etc"
    host.sh("mkdir /etc/of-root; echo whole >/etc/of-root/file; chmod -R a+rX /etc/of-root")

    host.sh(AS_DEPLOY.format("releases", "/etc/of-root"))
    assert "/srv/sandbox/releases does not belong to the user deploy" in world.project.fab("setup", code=1)
    assert host.sh("stat -c %U /etc/of-root") == "root"
    host.sh("cd /srv/sandbox; rm releases; mv releases.away releases")

    for name in ("lock", "step"):
        host.sh(AS_DEPLOY.format(f"shared/{name}", "/etc/of-root/file"))
        assert "is no file of deploy's" in world.project.fab("lock", "until Monday", code=1)
        host.sh(f"ln -sfn /etc/of-root/new /srv/sandbox/shared/{name}")
        world.project.fab("lock", "until Monday", code=1)
        assert ((etc / "of-root/file").read_text(), (etc / "of-root/new").exists()) == ("whole\n", False)
        world.project.fab("setup")
        world.project.fab("unlock")


def test_a_script_that_ends_before_it_has_read_its_input_says_why(world: World) -> None:
    world.host.sh("cd /srv/sandbox/shared; mv wheels wheels.away; touch wheels")
    assert "/srv/sandbox/shared/wheels: Not a directory" in world.project.fab("deploy:upload", code=1)


def test_nobody_but_deploy_and_root_can_hold_the_locks(world: World) -> None:
    files = "/srv/sandbox/shared/lock /srv/sandbox/shared/step"
    world.host.sh(f"chmod 644 {files}")  # as earlier tools made them
    world.project.fab("lock", "until Monday")
    assert world.host.sh(f"stat -c %a {files}").split() == ["600", "600"]
    world.host.sh(f"rm {files}")
    world.project.fab("setup")
    assert world.host.sh(f"stat -c %a {files}").split() == ["600", "600"]


def test_nobody_but_the_service_says_what_serves(world: World) -> None:
    assert eventually(world.serves, 60)
    before = facts(world.host)
    assert (before["serving"], before["living"]) == (world.host.current, [world.host.current])
    for user, living in (("nobody", []), ("deploy", ["posed"])):
        pose = shlex.quote(POSES.format("/srv/sandbox/releases/posed/.venv/bin/python"))
        world.host.sh(
            f"cd /; mkfifo /run/posed; setpriv --reuid={user} sh -c {pose} >/run/posed 2>&1 & read _ </run/posed"
        )
        found = facts(world.host)
        assert found["serving"] == world.host.current
        assert found["living"] == sorted([*before["living"], *living])
        world.host.sh("rm /run/posed; pkill -f /releases/[p]osed/")


def test_deploy_learns_no_line_of_a_file_of_roots(world: World) -> None:
    host, shared, release = world.host, "/srv/sandbox/shared", f"/srv/sandbox/releases/{world.host.current}"
    before = facts(host)
    assert before["releases"][0]["wheels"]
    host.sh("mkdir /etc/of-root; cd /etc/of-root; echo secret | tee frozen >.bad")
    built = {"wheels": {}, "sha": "secret", "version": "secret"}
    (host.folder / "etc/of-root/RELEASE.json").write_text(json.dumps(built))
    as_deploy = "runuser -u deploy -- "
    host.sh(
        f"{as_deploy} ln -s /etc/of-root/frozen {shared}/frozen; {as_deploy} ln -s /etc/of-root/.bad {release}/.bad"
    )
    host.sh(f"{as_deploy} ln -s /etc/of-root /srv/sandbox/releases/20261126T101500-0a1b2c3")
    found = facts(host)
    assert "secret" not in json.dumps(found)
    assert (found["frozen"], found["releases"][-1]["bad"]) == (OF_OTHERS, None)

    host.sh(f"rm {shared}/frozen {release}/.bad; {as_deploy} mkfifo {shared}/frozen")
    host.sh(f"{as_deploy} sh -c 'printf \"\\377 broken\" >{release}/.bad'")
    assert (facts(host)["frozen"], facts(host)["releases"][-1]["bad"]) == (OF_OTHERS, "\ufffd broken")


def test_the_settings_that_will_be_are_read_by_the_service_whatever_the_umask_of_the_host(world: World) -> None:
    file = {"path": "/etc/default/sandbox", "owner": "root", "group": "sandbox", "mode": 0o640, "content": "A='1'\n"}
    given = {"what": "keep", "release": "r", "files": [file], "overwrite": True, "secrets": []}
    (world.host.folder / "home/given").write_text(json.dumps(given))
    world.host.sh(f"umask 077; /usr/bin/python3 {PLACE} </home/given")
    assert world.host.sh("runuser -u sandbox -- cat /etc/sandbox/next/r.default") == "A='1'"


def test_a_switch_that_leaves_changed_settings_shows_no_value(world: World) -> None:
    file = {"path": "/etc/default/sandbox", "owner": "root", "group": "sandbox", "mode": 0o640, "content": "A='new'\n"}
    for what in ("keep", "put"):
        given = {"what": what, "release": "r", "files": [file], "overwrite": False, "secrets": []}
        (world.host.folder / "home" / what).write_text(json.dumps(given))
    world.host.sh(f"/usr/bin/python3 {PLACE} </home/keep; echo A=old >/etc/default/sandbox")
    said = world.host.sh(f"/usr/bin/python3 {PLACE} </home/put")
    assert "-A=***" in said and "+A=***" in said and "new" not in said and "old" not in said


def test_what_is_not_committed_is_not_deployed(world: World) -> None:
    (world.project.folder / "setup.py").write_text("changed")
    assert "not committed" in world.project.fab("deploy", code=1)


def test_a_file_that_somebody_has_changed_is_shown_and_left(world: World) -> None:
    default = world.host.folder / "etc/default/sandbox"
    before = default.read_text()
    default.write_text(before + "SANDBOX_THREADS='2'\n")
    said = world.project.fab("setup")
    assert "somebody has changed it" in said
    assert "-SANDBOX_THREADS=***" in said  # the stage does not name it: so it might be a secret
    assert "SANDBOX_THREADS" in default.read_text()
    world.project.fab("setup", "--overwrite")
    assert default.read_text() == before


def test_a_site_that_nginx_refuses_is_not_put_in_place(world: World) -> None:
    site = world.host.folder / "etc/nginx/sites-available/sandbox"
    before = site.read_text()
    world.project.change("deploy/templates/nginx", "server_tokens off;", "server_tokens perhaps;", "a bad site")
    said = world.project.fab("setup", code=1)
    assert "nginx refuses the site" in said and 'invalid value "perhaps" in /etc/nginx/sites-enabled/sandbox:' in said
    assert site.read_text() == before
    assert eventually(world.serves, 60)


@pytest.mark.slow
def test_a_site_that_nginx_was_never_told_of_is_told_by_the_next_setup(world: World) -> None:
    """So a setup leaves it that is killed between the file and nginx."""
    site = world.host.folder / "etc/nginx/sites-available/sandbox"
    before = site.read_text()
    world.project.change("deploy/templates/nginx", "server_tokens off;", "server_tokens on;", "another site")
    world.project.fab("setup")
    after = site.read_text()
    site.write_text(before)
    world.host.sh("service nginx reload")
    assert eventually(lambda: served_mark(world) in before, 60)
    site.write_text(after)

    assert "sites-available/sandbox written, and nginx serves it" in world.project.fab("setup")
    assert served_mark(world) in after
    assert "sites-available/sandbox written" not in world.project.fab("setup")


def served_mark(world: World) -> str:
    said = world.host.sh("curl -sk -o /dev/null -D - -H 'Host: not-this-one.invalid' https://127.0.0.1/")
    return next(line.split()[1] for line in said.splitlines() if line.lower().startswith("x-sandbox-site:"))


def test_a_host_whose_key_is_not_known_is_refused(world: World) -> None:
    (world.folder / "known_hosts").write_text("")
    assert "not found in known_hosts" in world.project.fab("status", code=1)

    (world.folder / "others").write_text(world.host.known_host)
    file = world.project.folder / "deploy" / "stages" / "test.toml"
    file.write_text(file.read_text().replace("../../known_hosts", "~/others"))
    fab = world.project.start("releases", output=world.folder / "output", variables={"HOME": str(world.folder)})
    assert fab.wait(60) == 0, (world.folder / "output").read_text()


def test_a_frozen_stage_takes_no_deploy_until_it_is_unlocked(world: World) -> None:
    world.project.fab("lock", "freeze until Monday")
    assert "freeze until Monday" in world.project.fab("deploy", code=1)
    alone = world.project.fab("deploy:switch", "--release", str(world.host.current), code=1)
    assert "is frozen: freeze until Monday" in alone
    world.project.fab("unlock")
    world.project.fab("deploy:check")
    world.project.fab("deploy:build")
