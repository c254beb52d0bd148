"""`sandbox restart`: another circusd with other settings takes over, and no client notices."""

import errno
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.servers import BUSY, eventually, free_port
from tests.system.instance import SANDBOX, Instance, Process, frozen
from tests.system.load import load
from tests.system.releases import Release, Releases

RESTART = (*SANDBOX, "restart")
DONE = "sandbox has been restarted\n"
OF_ONES_OWN = (
    "\n[watcher:own]\ncmd = sleep 600\ncopy_env = True\nhooks.before_start = service.supervise.hooks.before_start"
)
SLOW = ("service/cli/wsgi.py", "import time; time.sleep(600)")


@pytest.fixture
def instance(released: Instance, releases: Releases) -> Instance:
    """Its circusd runs the code of its release, too."""
    released.environment |= {"PYTHONPATH": str(releases.link.resolve()), "SANDBOX_RELOAD": "60"}
    return released


def restart(instance: Instance, release: Release | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    """Typed in a shell with these settings, and with the programs of this release."""
    if release is not None:
        variables |= {"PYTHONPATH": str(release.path), "SANDBOX_RELEASE": str(release.path)}
    return instance.run(*RESTART, **variables)


def mark(instance: Instance) -> object:
    return instance.call("GET", "/health/ready")[1].get("mark")


def served_by(process: Process) -> str:
    return os.readlink(f"/proc/{process.pid}/cwd")


def settled(instance: Instance) -> dict[str, list[Process]]:
    """Who tells of the start is gone."""
    eventually(lambda: len(instance.processes()) == 8, 20 * BUSY)
    return instance.kinds()


@contextmanager
def restarting(instance: Instance, *release: Release, **variables: str) -> Iterator[list[str]]:
    """In the background; what it has said, when it is over, and its exit code."""
    said: list[str] = []

    def ask() -> None:
        done = restart(instance, *release, **variables)
        said.extend((done.stdout + done.stderr, str(done.returncode)))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield said
    finally:
        thread.join()


def test_settings_circus_ini_and_code_are_taken_over_under_load(instance: Instance, releases: Releases) -> None:
    before = instance.started().kinds()
    two = releases.make("two").named("two").add("circus.ini", OF_ONES_OWN)
    two.change("service/supervise/restart.py", 'say("sandbox has been restarted")', 'say("new code of circusd")')
    uid = instance.create("sleep", seconds=6)
    eventually(lambda: instance.task(uid)["status"] == "running")
    with load(instance, pause=0):
        done = restart(instance, two, SANDBOX_RUNNERS="3", SANDBOX_LOG_LEVEL="warning")
        assert (done.returncode, done.stdout, done.stderr) == (0, DONE, "")
        assert mark(instance) == "two"
    assert not any(process.alive for process in before["web"])
    assert "new code of circusd" in instance.output
    eventually(lambda: not any(process.alive for process in before["runner"]), 20 * BUSY)
    assert instance.task(uid)["status"] == "succeeded" and instance.task(uid)["attempt"] == 1
    after = instance.kinds()
    assert [len(after[kind]) for kind in ("web", "runner")] == [3, 3]
    assert after["redis"] == before["redis"]
    assert {served_by(process) for process in after["web"] + after["runner"]} == {str(two.path)}
    assert instance.circusctl("status", "own") == "active\n"
    lines = (instance.home / "log" / "web.log").read_text()
    assert mark(instance) == "two" and (instance.home / "log" / "web.log").read_text() == lines, "level: warning"
    assert instance.stop() == 0
    instance.is_gone()


def test_it_may_be_restarted_again_and_still_holds_its_folder(instance: Instance) -> None:
    instance.started()
    with load(instance, pause=0):
        for number in ("1", "3"):
            assert restart(instance, SANDBOX_RUNNERS=number).stdout == DONE
            eventually(lambda number=number: len(instance.kinds()["runner"]) == int(number), 20 * BUSY)
    assert f"another sandbox (process {instance.pid}) runs on" in instance.run().stderr
    arbiter = min(instance.kinds()["web"])
    os.kill(arbiter.pid, signal.SIGKILL)
    eventually(lambda: not arbiter.alive and instance.is_whole())
    assert instance.circusctl("reload") == "ok\n"
    assert instance.stop() == 0
    instance.is_gone()


def test_what_is_adopted_is_replaced_when_it_dies(instance: Instance) -> None:
    [redis] = instance.started().kinds()["redis"]
    assert restart(instance).stdout == DONE
    assert instance.kinds()["redis"] == [redis]
    os.kill(redis.pid, signal.SIGKILL)
    eventually(lambda: instance.kinds()["redis"] not in ([], [redis]))
    eventually(instance.is_ready)


WRONG = [
    ("SANDBOX_RUNNERS", "none", "SANDBOX_RUNNERS is 'none'; allowed is a number from 1 to 256."),
    ("SANDBOX_TASKS", "not_there", "SANDBOX_TASKS is 'not_there', which cannot be loaded"),
    ("SANDBOX_BIND", "0.0.0.0", "without SANDBOX_TOKENS only loopback"),
    ("SANDBOX_HOME", "elsewhere", "no sandbox runs on"),
    ("SANDBOX_CONTROL_GROUP", "no-such-group", "SANDBOX_CONTROL_GROUP is 'no-such-group'"),
    ("SANDBOX_LOGS", "/etc/passwd", "SANDBOX_LOGS is '/etc/passwd', which cannot be used"),
    ("REDIS_URL", "redis://127.0.0.1:9/0", "Redis cannot be reached"),
]


def test_wrong_settings_are_refused_in_words(instance: Instance) -> None:
    instance.started()
    before = settled(instance)
    for variable, value, reason in WRONG:
        refused = restart(instance, **{variable: value})
        assert refused.returncode == 1 and refused.stderr.startswith("sandbox: "), variable
        assert reason in refused.stderr, variable
        assert instance.kinds() == before, variable


def test_an_address_that_is_taken_and_a_wrong_circus_ini_are_refused(instance: Instance, releases: Releases) -> None:
    instance.started()
    before = settled(instance)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"SANDBOX_PORT is {port}, which is in use" in restart(instance, SANDBOX_PORT=port).stderr
    broken = releases.make("broken").add("circus.ini", "\n[watcher:own]\nrelease = /not/there\ncmd = sleep 1")
    refused = restart(instance, broken)
    assert refused.returncode == 1 and "could not make the watcher own" in refused.stderr
    assert instance.kinds() == before


def test_what_is_not_ready_with_the_new_settings_is_refused_and_circusd_is_what_it_was(
    instance: Instance, releases: Releases
) -> None:
    instance.started()
    before = settled(instance)
    broken = releases.make("broken").add("service/web/app.py", "raise ImportError('found only by the trial')")
    with load(instance):
        refused = restart(instance, broken, SANDBOX_RUNNERS="3")
        assert refused.returncode == 1 and "found only by the trial" in refused.stderr
        assert refused.stderr.startswith("sandbox: the service goes on as before: sandbox: ")
    assert instance.kinds() == before
    os.kill(before["runner"][0].pid, signal.SIGKILL)
    os.kill(min(before["web"]).pid, signal.SIGKILL)
    eventually(lambda: not any(process.alive for process in before["web"]) and instance.is_whole(), 20 * BUSY)
    after = instance.kinds()
    assert [len(after[kind]) for kind in ("web", "runner", "redis")] == [3, 2, 1]
    assert {served_by(process) for process in after["web"] + after["runner"]} == {str(releases.link.resolve())}
    assert restart(instance).stdout == DONE
    assert instance.stop() == 0
    instance.is_gone()


@pytest.mark.parametrize("other", ["a port", "a unix socket"])
def test_a_refused_restart_to_another_address_listens_where_it_did(
    instance: Instance, releases: Releases, other: str
) -> None:
    instance.started()
    before, supervisor = settled(instance), instance.pid
    broken = releases.make("broken").add("service/web/app.py", "raise ImportError('found only by the trial')")
    wanted = {"SANDBOX_PORT": str(free_port())} if other == "a port" else {"SANDBOX_BIND": f"unix:{instance.home}/s"}
    with load(instance):
        refused = restart(instance, broken, **wanted)
    assert refused.returncode == 1 and "found only by the trial" in refused.stderr
    assert instance.kinds() == before and instance.pid == supervisor
    assert restart(instance).stdout == DONE
    assert instance.stop() == 0
    instance.is_gone()


def test_what_dies_after_a_refusal_or_during_the_trial_is_replaced_by_the_release_that_serves(
    instance: Instance, releases: Releases
) -> None:
    """As deploy tools leave it: the link leads to the refused release."""
    one = str(releases.link.resolve())
    instance.started()
    broken = releases.make("broken").add("service/web/app.py", "raise ImportError('found only by the trial')")
    releases.switch(broken)
    assert "found only by the trial" in restart(instance).stderr
    kill_and_see_served_by(instance, one)
    gate = instance.home.parent / "gate"
    releases.switch(waiting(releases, gate))
    with restarting(instance) as said:
        eventually(lambda: len(instance.kinds()["web"]) == 6, 20 * BUSY)
        on_trial = [process for process in instance.kinds()["runner"] if served_by(process) != one]
        kill_and_see_served_by(instance, one, *on_trial)
        gate.touch()
    assert said == [DONE, "0"]


def kill_and_see_served_by(instance: Instance, release: str, *but: Process) -> None:
    """A runner dies."""
    before = instance.kinds()["runner"]
    killed = next(process for process in before if process not in but)
    os.kill(killed.pid, signal.SIGKILL)
    eventually(lambda: not killed.alive and len(instance.kinds()["runner"]) == len(before), 20 * BUSY)
    [after] = [process for process in instance.kinds()["runner"] if process not in before]
    eventually(lambda: served_by(after) == release)


def test_a_release_that_writes_down_more_is_gone_back_to(instance: Instance, releases: Releases) -> None:
    releases.make("one").change(
        "service/supervise/start/handover.py", "    folder: str\n", '    folder: str\n    more: str = "x"\n'
    )
    instance.started()
    before = settled(instance)
    broken = releases.make("broken").add("service/web/app.py", "raise ImportError('found only by the trial')")
    assert "goes on as before: sandbox: " in restart(instance, broken).stderr
    assert instance.kinds() == before
    assert restart(instance).stdout == DONE


def test_a_restart_that_a_task_asks_for_leaves_processes_that_the_next_start_finds(instance: Instance) -> None:
    """It has the environment of a runner."""
    instance.started()
    of_a_runner = {
        "SANDBOX_SESSION": "1",
        "SANDBOX_TRIAL": str(instance.home),
        "SANDBOX_WATCHER": "20 20 sandbox-runner",
    }
    assert restart(instance, **of_a_runner).stdout == DONE
    left = [process for processes in instance.kinds().values() for process in processes]
    for process in instance.kinds()["web"]:
        assert b"\0SANDBOX_SESSION=" not in Path(f"/proc/{process.pid}/environ").read_bytes()
    instance.kill()
    instance.start()
    eventually(lambda: "Ctrl-C" in instance.output, 60)
    assert "ending first what it left" in instance.output
    assert not any(process.alive for process in left)


def test_another_redis_is_started_while_connections_wait(instance: Instance) -> None:
    before = instance.started().kinds()
    with load(instance):
        uid = instance.create("echo", message="kept")
        assert restart(instance, SANDBOX_FSYNC="always").stdout == DONE
    assert not any(process.alive for processes in before.values() for process in processes)
    eventually(lambda: instance.succeeded(uid))
    eventually(lambda: instance.circusctl("status", "redis-sync") == "stopped\n")
    assert instance.stop() == 0
    instance.is_gone()


def test_a_refused_restart_to_another_redis_starts_everything_anew_as_it_was(
    instance: Instance, releases: Releases
) -> None:
    before, supervisor = instance.started().kinds(), instance.pid
    uid = instance.create("echo", message="kept")
    eventually(lambda: instance.succeeded(uid))
    broken = releases.make("broken").add("service/web/app.py", "raise ImportError('found only at the start')")
    with load(instance):
        refused = restart(instance, broken, SANDBOX_FSYNC="always", SANDBOX_RUNNERS="1")
        assert refused.returncode == 1
        assert refused.stderr.startswith("sandbox: the service goes on as before: sandbox has ended with code ")
        assert "Everything was started anew with the former settings." in refused.stderr
    assert instance.pid == supervisor and instance.succeeded(uid)
    eventually(instance.is_whole)
    after = instance.kinds()
    assert {kind: len(after[kind]) for kind in after} == {kind: len(before[kind]) for kind in before}
    assert {served_by(process) for process in after["web"] + after["runner"]} == {str(releases.link.resolve())}
    assert "--appendfsync no" in after["redis"][0].command
    assert restart(instance).stdout == DONE
    assert instance.stop() == 0
    instance.is_gone()


@pytest.mark.slow
def test_of_another_redis_a_web_that_hangs_goes_back_too(instance: Instance, releases: Releases) -> None:
    before, supervisor = instance.started().kinds(), instance.pid
    hanging = releases.make("hanging").add("service/web/app.py", "import time; time.sleep(10_000)")
    refused = restart(instance, hanging, SANDBOX_FSYNC="always")
    assert refused.returncode == 1 and "no web worker has come up within 70 s" in refused.stderr
    eventually(instance.is_ready, 60 * BUSY)
    eventually(instance.is_whole, 60 * BUSY)
    after = instance.kinds()
    assert instance.pid == supervisor and {kind: len(after[kind]) for kind in after} == {
        kind: len(before[kind]) for kind in before
    }
    assert instance.stop() == 0
    instance.is_gone()


def test_a_term_while_everything_ends_for_another_redis_stops_it_in_order(instance: Instance) -> None:
    """It is ending as at a stop, each in its time, and nothing is started after it."""
    instance.started()
    uid = instance.create("sleep", seconds=6)
    eventually(lambda: instance.task(uid)["status"] == "running")
    web = instance.kinds()["web"]
    with restarting(instance, SANDBOX_FSYNC="always") as said:
        eventually(lambda: "everything is started anew" in instance.output, 20 * BUSY)
        eventually(lambda: not any(process.alive for process in web), 20 * BUSY)
        began = (instance.home / "log" / "circus.log").read_text()
        instance.terminate()
        eventually(lambda: "sandbox is stopping" in instance.output, 30 * BUSY)
        assert instance.wait(30 * BUSY) == 0
    assert said[0].startswith(("sandbox: the service is stopping", "sandbox: circusd has ended"))
    assert said[1] == "7"
    assert "sandbox started" not in (instance.home / "log" / "circus.log").read_text()[len(began) :]
    instance.is_gone()
    instance.started()
    assert instance.task(uid)["attempt"] == 1 and instance.succeeded(uid)


def test_a_unix_socket_stays(instance: Instance) -> None:
    instance.environment["SANDBOX_BIND"] = f"unix:{instance.home.parent}/web.sock"
    instance.start()
    eventually(lambda: "Ctrl-C" in instance.output, 30)
    with load(instance):
        assert restart(instance, SANDBOX_RUNNERS="1").stdout == DONE


def test_another_port_is_listened_on_and_the_former_is_free(instance: Instance) -> None:
    instance.started()
    former, instance.port = instance.port, free_port()
    assert restart(instance, SANDBOX_PORT=str(instance.port)).stdout == DONE
    assert instance.is_ready()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", former)) == errno.ECONNREFUSED


def test_circusd_with_arguments_of_ones_own_keeps_them(instance: Instance, releases: Releases) -> None:
    ini = releases.make("one").path / "own.ini"
    ini.write_text((ini.with_name("circus.ini")).read_text() + OF_ONES_OWN)
    instance.started(*SANDBOX, "circusd", str(ini))
    assert restart(instance, SANDBOX_RUNNERS="1").stdout == DONE
    assert instance.circusctl("status", "own") == "active\n"
    eventually(lambda: len(instance.kinds()["runner"]) == 1, 20 * BUSY)


def waiting(releases: Releases, gate: Path) -> Release:
    """Its web workers are ready when this file is there."""
    lines = f"import os, time\n\nwhile not os.path.exists({str(gate)!r}):\n    time.sleep(0.05)"
    return releases.make("slow").change("service/cli/wsgi.py", "import os", lines)


def test_one_that_is_interrupted_before_circusd_takes_it_leaves_no_secrets(instance: Instance) -> None:
    instance.started()
    wishes = instance.home / "run" / "restart"
    words = {"cwd": instance.home.parent, "env": instance.environment, "start_new_session": True}
    with subprocess.Popen(RESTART, stderr=subprocess.PIPE, **words) as command:
        eventually(lambda: psutil.Process(command.pid).children(), 20 * BUSY)  # circusd has said where it listens
        with frozen(Process(instance.pid, "circusd")):
            eventually(lambda: list(wishes.glob("*/program")), 20 * BUSY)
            os.kill(command.pid, signal.SIGINT)
            command.wait(20 * BUSY)
            assert list(wishes.iterdir()) == []
    assert wishes.stat().st_mode & 0o777 == 0o700
    assert restart(instance).stdout == DONE


def test_while_a_reload_is_under_way_it_is_refused(instance: Instance, releases: Releases) -> None:
    instance.started()
    gate = instance.home.parent / "gate"
    releases.switch(waiting(releases, gate))
    reload = threading.Thread(target=instance.circusctl, args=("reload", "sandbox"))
    reload.start()
    eventually(lambda: len(instance.kinds()["web"]) > 3, 20 * BUSY)
    refused = restart(instance, Release(releases.link.resolve().with_name("one")))
    gate.touch()
    assert refused.returncode == 1 and "a reload or another restart is under way" in refused.stderr
    reload.join()


def test_one_at_a_time(instance: Instance, releases: Releases) -> None:
    instance.started()
    gate = instance.home.parent / "gate"
    with restarting(instance, waiting(releases, gate)) as said:
        eventually(lambda: len(instance.kinds()["web"]) == 6, 20 * BUSY)
        busy = "a reload or another restart is under way; wait for its outcome"
        assert busy in restart(instance).stderr
        assert instance.circusctl("reload") == "error: a restart is under way; wait for its outcome.\n"
        gate.touch()
    assert said == [DONE, "0"]
    assert instance.circusctl("reload") == "ok\n"


def test_a_runner_that_an_earlier_reload_told_to_stop_finishes_its_task(instance: Instance) -> None:
    instance.started()
    uid = instance.create("sleep", seconds=8)
    eventually(lambda: instance.task(uid)["status"] == "running")
    assert instance.circusctl("reload", "sandbox-runner") == "ok\n"
    assert restart(instance).stdout == DONE
    eventually(lambda: instance.succeeded(uid), 20 * BUSY)
    assert instance.task(uid)["attempt"] == 1
    eventually(lambda: len(instance.kinds()["runner"]) == 2)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_circusd_is_ended_in_the_middle(instance: Instance, releases: Releases, signum: int) -> None:
    """A TERM stops everything; after a kill what served goes on serving, and the next start takes over."""
    before = instance.started().kinds()["web"]
    with restarting(instance, releases.make("slow").add(*SLOW)) as said:
        eventually(lambda: len(instance.kinds()["web"]) == 6, 20 * BUSY)
        os.kill(instance.pid, signum)
        code = instance.wait()
        if signum == signal.SIGKILL:
            assert all(process.alive for process in before)
            instance.start()
            eventually(lambda: "Ctrl-C" in instance.output, 60)
            assert not any(process.alive for process in before)
            code = instance.stop()
        assert code == 0
    assert said[0].startswith(("sandbox: the service is stopping", "sandbox: circusd has ended"))
    assert said[1] == "7"
    instance.is_gone()


@pytest.mark.parametrize("moment", ["circusd becomes", "Registering signals", "is on trial", "serves, after"])
def test_a_term_at_any_moment_of_a_restart_stops_everything(instance: Instance, moment: str) -> None:
    """Also between the two programs, when none has handlers for signals."""
    log = instance.started().home / "log" / "circus.log"
    count = log.read_text().count(moment)
    with restarting(instance):
        eventually(lambda: log.read_text().count(moment) > count, 20 * BUSY, 0.001)
        instance.terminate()
        assert instance.wait(30 * BUSY) == 0
    instance.is_gone()
