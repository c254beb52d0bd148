"""The init script, called as an administrator calls it, on a host that has a release."""

import pytest

from tests.deploy.host import TestHost
from tests.deploy.test_load import Clients
from tests.deploy.world import World
from tests.servers import BUSY, eventually

SCRIPT = "/etc/init.d/sandbox"
OK, DEAD, USAGE, STOPPED, UNKNOWN, NOT_ALLOWED, NOT_INSTALLED, NOT_CONFIGURED, NOT_RUNNING = 0, 1, 2, 3, 4, 4, 5, 6, 7
LOOKS_AT_ITS_TERMINAL = """#!/bin/sh
exec >/run/sandbox/seen
ps -o tty= -p $$
readlink /proc/$$/fd/0
exit 7"""


def init(host: TestHost, *words: str) -> int:
    done = host.run(SCRIPT, *words, check=False, seconds=120 * BUSY)
    print(words, done.returncode, done.stdout, done.stderr)
    return done.returncode


def init_as_nobody(host: TestHost, word: str) -> int:
    return host.run("setpriv", "--reuid=65534", "--clear-groups", SCRIPT, word, check=False).returncode


def processes(host: TestHost) -> set[str]:
    return set(host.sh("pgrep -u sandbox", check=False).split())


def circusd(host: TestHost) -> str:
    return host.sh("cat /run/sandbox/sandbox.pid")


@pytest.fixture
def running(world: World) -> TestHost:
    assert eventually(world.serves, 60 * BUSY)
    return world.host


def test_each_word_has_the_exit_code_that_lsb_gives_it(running: TestHost) -> None:
    assert init(running, "status") == OK
    assert init_as_nobody(running, "status") == UNKNOWN
    before = circusd(running)
    assert init(running, "start") == OK and circusd(running) == before
    assert init_as_nobody(running, "stop") == NOT_ALLOWED
    assert init(running, "begin") == init(running) == init(running, "start", "now") == USAGE

    assert init(running, "stop") == OK
    assert processes(running) == set()
    assert init(running, "status") == STOPPED
    assert init(running, "stop") == OK
    assert init(running, "reload") == NOT_RUNNING
    assert init(running, "try-restart") == init(running, "force-reload") == OK
    assert init(running, "status") == STOPPED

    running.sh("mv /etc/default/sandbox /etc/default/away")
    assert init(running, "start") == NOT_CONFIGURED
    running.sh("mv /etc/default/away /etc/default/sandbox; mv /srv/sandbox/current /srv/sandbox/away")
    for word in ("start", "restart"):
        done = running.run(SCRIPT, word, check=False)
        assert (done.returncode, done.stdout) == (NOT_INSTALLED, "")
        assert done.stderr.startswith("sandbox: no release is deployed: ") and done.stderr.count("\n") == 1
    running.sh("mv /srv/sandbox/away /srv/sandbox/current")


def test_a_start_makes_the_folder_anew_and_gives_the_service_nothing_of_the_callers_environment(
    running: TestHost, world: World
) -> None:
    assert init(running, "stop") == OK
    running.sh("rm -r /run/sandbox")
    of_the_caller = ("SENTRY_RELEASE=mine", "FOO=bar", "LANG=POSIX", "TERM=vt100")
    running.sh("rm /var/log/sandbox/web.log")
    running.run("env", *of_the_caller, "sh", "-c", f"umask 077; {SCRIPT} start", seconds=120 * BUSY)
    assert world.serves()
    assert running.sh("stat -c '%U %G %a' /run/sandbox") == "sandbox www-data 2750"
    assert running.sh("stat -c '%G %A' /var/log/sandbox/web.log").startswith("adm -rw-r")
    assert world.runs_a_task()

    variables = running.sh(f"tr '\\0' '\\n' </proc/{circusd(running)}/environ").splitlines()
    names = {variable.partition("=")[0] for variable in variables}
    assert not names & {"FOO", "SENTRY_RELEASE", "SANDBOX_INIT", "SSH_CLIENT", "TERM"}
    assert "LANG=C.UTF-8" in variables
    assert "SANDBOX_HOME=/var/lib/sandbox" in variables and "HOME=/var/lib/sandbox" in variables


def test_root_follows_no_link_and_waits_for_no_pipe_in_folders_of_the_services_user(running: TestHost) -> None:
    out, pid_file, pid = "/var/log/sandbox/start.out", "/run/sandbox/sandbox.pid", circusd(running)
    running.sh(f"runuser -u sandbox -- sh -c 'rm {pid_file}; mkfifo {pid_file}'")
    assert init(running, "status") == DEAD
    running.sh(f"rm {pid_file}; echo {pid} >{pid_file}")
    assert init(running, "stop") == OK

    running.sh(f"runuser -u sandbox -- ln -sf /etc/of-root {out}")
    assert init(running, "start") == OK
    assert running.sh(f"stat -c '%U %F' {out}; ls /etc/of-root", check=False).startswith("sandbox regular")
    assert not (running.folder / "etc/of-root").exists()
    assert init(running, "stop") == OK

    running.sh(f"chown root {out}")  # as it was before
    assert init(running, "start") == OK


def test_the_services_user_gets_no_hold_of_the_terminal_and_its_exit_code_counts(running: TestHost) -> None:
    """Who has a terminal may type into it, and root's shell reads that."""
    program = "/srv/sandbox/current/.venv/bin/sandbox"
    running.sh(f"mv {program} {program}.away; echo '{LOOKS_AT_ITS_TERMINAL}' >{program}; chmod 755 {program}")
    assert running.run("script", "-qec", f"{SCRIPT} restart", "/dev/null", check=False).returncode == 7
    assert running.sh("cat /run/sandbox/seen").split() == ["?", "/dev/null"]


@pytest.mark.slow
def test_a_start_that_is_refused_says_why(running: TestHost) -> None:
    assert init(running, "stop") == OK
    running.sh("echo \"SANDBOX_RUNNERS='many'\" >>/etc/default/sandbox")
    done = running.run(SCRIPT, "start", check=False)
    assert done.returncode == 1
    assert "SANDBOX_RUNNERS is 'many'; allowed is a number from 1 to 256." in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("word", ["restart", "reload", "force-reload", "try-restart"])
def test_it_takes_new_settings_over_and_refuses_nobody(word: str, running: TestHost, world: World) -> None:
    before = circusd(running)
    running.sh("echo \"SANDBOX_THREADS='3'\" >>/etc/default/sandbox")
    with Clients(world).at_work() as clients:
        eventually(lambda: len(clients.accepted) > 5, 60)
        assert init(running, word) == OK
        accepted = len(clients.accepted)
        eventually(lambda: len(clients.accepted) > accepted + 5, 60)
    assert clients.failed == []
    assert circusd(running) == before
    assert "SANDBOX_THREADS=3" in running.sh(f"tr '\\0' '\\n' </proc/{before}/environ").splitlines()
    assert init(running, "status") == OK


@pytest.mark.slow
def test_settings_that_cannot_be_used_are_not_taken_over(running: TestHost, world: World) -> None:
    running.sh("echo \"SANDBOX_THREADS='many'\" >>/etc/default/sandbox")
    done = running.run(SCRIPT, "restart", check=False)
    assert done.returncode == 1 and "SANDBOX_THREADS is 'many'" in done.stderr
    assert world.serves()


@pytest.mark.slow
@pytest.mark.parametrize("word", ["start", "stop", "restart"])
def test_what_a_killed_circusd_left_is_ended_in_order(word: str, running: TestHost, world: World) -> None:
    left = processes(running) - {circusd(running)}
    running.sh(f"kill -KILL {circusd(running)}")
    assert init(running, "status") == DEAD
    assert world.serves()
    assert init(running, word) == OK
    assert not left & processes(running)
    if word == "stop":
        assert processes(running) == set()
        assert init(running, "status") == STOPPED
    else:
        assert world.runs_a_task()
        assert init(running, "status") == OK


@pytest.mark.slow
def test_a_stop_waits_for_what_runs(running: TestHost, world: World) -> None:
    status, task = world.call("POST", "/tasks", {"type": "sleep", "args": {"seconds": 4}})
    assert status == 201, task
    eventually(lambda: world.call("GET", f"/tasks/{task['uid']}")[1]["status"] == "running", 30)
    assert init(running, "stop") == OK
    assert init(running, "start") == OK
    assert world.call("GET", f"/tasks/{task['uid']}")[1]["status"] == "succeeded"
