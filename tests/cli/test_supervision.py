"""`sandbox status` and `sandbox reload`, beside a real service."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.cli.terminal import Terminal
from tests.servers import eventually
from tests.system.instance import SANDBOX, Instance
from tests.system.releases import Releases


def test_status_says_what_runs(running: Instance, sandbox: Command) -> None:
    done = sandbox("status")
    assert (done.returncode, done.stderr) == (0, "")
    facts, watchers = done.stdout.split("\n\n")
    assert dict(line.split("\t") for line in facts.splitlines()) == {
        "service": f"http://127.0.0.1:{running.port}",
        "state": "ready",
        "runners": "1",
        "circusd": f"process {running.pid}",
        "home": str(running.home),
        "logs": str(running.home / "log"),
    }
    assert watchers.splitlines() == [
        "redis\tactive\t1\t1",
        "redis-sync\tactive\t1\t1",
        "sandbox\tactive\t1\t1",
        "sandbox-runner\tactive\t1\t1",
    ]
    found = json.loads(sandbox("status", "--json").stdout)
    assert found["ready"] and found["watchers"]["sandbox-runner"] == {"status": "active", "processes": 1, "wanted": 1}


def test_status_of_a_service_elsewhere_is_what_it_answers(running: Instance, folder: Path) -> None:
    other = Instance(folder)
    done = other.run(*SANDBOX, "status", SANDBOX_URL=f"http://127.0.0.1:{running.port}")
    assert done.returncode == 0
    assert done.stdout.splitlines() == [f"service\thttp://127.0.0.1:{running.port}", "state\tready", "runners\t1"]


def test_status_and_reload_without_a_service(folder: Path) -> None:
    away = Instance(folder)
    done = away.run(*SANDBOX, "status")
    assert (done.returncode, done.stderr) == (7, "")
    assert "state\tnot ready\n" in done.stdout and "none. `sandbox run` starts the service" in done.stdout
    done = away.run(*SANDBOX, "reload")
    assert (done.returncode, done.stdout) == (7, "")
    assert done.stderr == f"sandbox: no sandbox runs on {away.home}. `sandbox run` starts one.\n"


def test_status_tells_of_a_supervisor_that_does_not_answer(instance: Instance) -> None:
    instance.started()
    os.kill(instance.pid, signal.SIGSTOP)
    try:
        done = instance.run(*SANDBOX, "status")
    finally:
        os.kill(instance.pid, signal.SIGCONT)
    assert done.returncode == 0 and "state\tready\n" in done.stdout and f"process {instance.pid}\n" in done.stdout
    assert "failing: circusd\tcircusd does not answer at" in done.stdout


def test_status_tells_that_the_supervisor_was_killed(instance: Instance) -> None:
    instance.started().kill()
    done = instance.run(*SANDBOX, "status")
    assert done.returncode == 0
    assert "none on this folder: nothing that dies is replaced. `sandbox run` takes over" in done.stdout


def test_a_reload_tells_which_release_serves(released: Instance, releases: Releases) -> None:
    before = released.started().kinds()
    releases.switch(releases.make("two"))
    done = released.run(*SANDBOX, "reload", "web")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"sandbox: {releases.link.resolve()} serves, after ")
    assert released.kinds()["runner"] == before["runner"]
    both = released.run(*SANDBOX, "reload", "--json")
    assert json.loads(both.stdout)["reloaded"].keys() == {"sandbox", "sandbox-runner"}


def test_a_reload_that_is_refused_says_why(released: Instance, releases: Releases) -> None:
    before = released.started().kinds()
    releases.switch(releases.make("broken").add("service/web/app.py", "raise ImportError('a module is missing')"))
    done = released.run(*SANDBOX, "reload", "web")
    assert (done.returncode, done.stdout) == (1, "")
    assert "is refused: " in done.stderr and "a module is missing" in done.stderr
    assert released.kinds() == before


def test_a_second_reload_is_a_conflict_and_the_first_shows_how_far_it_is(
    released: Instance, releases: Releases
) -> None:
    released.started()
    releases.switch(releases.make("slow").add("service/builtin/demo.py", "import time; time.sleep(600)"))
    with Terminal(*SANDBOX, "reload", "runner", environment=released.environment) as first:
        assert first.shows("sandbox-runner: on trial for 1 s of 10")
        second = released.run(*SANDBOX, "reload")
        assert (second.returncode, second.stdout) == (6, "")
        assert "a reload of sandbox-runner is under way" in second.stderr
        assert first.ends() == 1
    assert "not ready within 10 s" in first.shown


@pytest.mark.parametrize("words", [("status",), ("reload",)])
def test_who_may_not_enter_is_told(make_instance: Callable[..., Instance], words: tuple[str, ...]) -> None:
    instance = make_instance(SANDBOX_RUNNERS="1").started()
    command = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *SANDBOX, *words)
    eventually(instance.is_whole)
    if instance.run("setpriv", "--reuid=65534", "true").returncode:
        pytest.skip("only root can become another user")
    instance.home.parent.chmod(0o755)
    instance.home.parent.parent.chmod(0o755)
    done = instance.run(*command)
    assert done.returncode == 4, done.stderr
    assert "closed to you" in done.stderr
