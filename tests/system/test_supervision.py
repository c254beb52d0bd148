"""The processes under circusd: how they start, stop, and stay apart."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from service import settings
from service.supervise.start import environment
from tests.servers import RedisServer, eventually
from tests.system.instance import ROOT, SANDBOX, Instance, deaths, frozen

IN_ORDER = ["web", "runner", "redis"]
CIRCUSD = (*SANDBOX, "circusd")

ALL_ACTIVE = (
    "observer: stopped\nredis: active\nredis-sync: active\nsandbox: active\nsandbox-builder: stopped\n"
    "sandbox-runner: active\n"
)


def seconds(count: float) -> Iterator[None]:
    """To look again and again for so long that something does not happen."""
    until = time.monotonic() + count
    while time.monotonic() < until:
        yield


def test_it_starts_and_says_where_and_its_curl_line_works(instance: Instance) -> None:
    instance.started()
    eventually(lambda: "Ctrl-C" in instance.output)
    curl = re.search(r"try +(curl .+)", instance.output)
    assert curl
    done = subprocess.run(f"{curl[1]} -sf", shell=True, capture_output=True, text=True, check=True)
    assert '"type":"echo"' in done.stdout
    assert f"listens on http://127.0.0.1:{instance.port}\n" in instance.output
    assert f"{instance.home}/log\n" in instance.output


def test_every_process_runs_and_no_other(instance: Instance) -> None:
    kinds = instance.started().kinds()
    eventually(lambda: len(instance.processes()) == 8)  # with circusd and Redis's companion; who told is gone
    assert [len(kinds[kind]) for kind in IN_ORDER] == [3, 2, 1], "an arbiter and two workers, runners, Redis"


def test_only_its_owner_reaches_the_sockets(instance: Instance) -> None:
    instance.started()
    assert (instance.home / "run").stat().st_mode & 0o777 == 0o700
    assert (instance.home / "redis").stat().st_mode & 0o777 == 0o700
    assert psutil.Process(instance.pid).net_connections("udp") == [], "circus listens for multicast"


@pytest.mark.parametrize("end", [Instance.interrupt, Instance.terminate])
def test_it_stops_in_order_and_leaves_nothing(instance: Instance, end: Callable[[Instance], None]) -> None:
    kinds = instance.started().kinds()
    end(instance)
    assert deaths(kinds) == IN_ORDER
    assert instance.wait() == 0
    instance.is_gone()


def test_a_handler_that_holds_the_interpreter_does_not_hold_up_a_stop(
    make_instance: Callable[..., Instance],
) -> None:
    instance = make_instance(SANDBOX_TASKS="tests.runner.handlers", PYTHONPATH=str(ROOT), SANDBOX_GRACE="1")
    kinds = instance.started().kinds()
    uid = instance.create("hold")
    eventually(lambda: instance.task(uid)["status"] == "running")
    instance.terminate()
    assert instance.wait(60) == 0
    assert deaths(kinds) == IN_ORDER
    instance.is_gone()


def test_web_is_gone_before_a_runner_is_told_to_stop(instance: Instance) -> None:
    kinds = instance.started().kinds()
    arbiter = min(kinds["web"])
    with frozen(arbiter):
        instance.terminate()
        eventually(lambda: "Got signal SIG_TERM" in (instance.home / "log" / "circus.log").read_text())
        instance.interrupt()  # nor does a Ctrl-C after it change the order
        for _ in seconds(1):
            assert all(process.alive for process in kinds["runner"] + kinds["redis"])
    assert deaths(kinds) == IN_ORDER
    assert instance.wait() == 0
    instance.is_gone()


def test_a_running_task_ends_and_is_stored_before_redis_goes(instance: Instance) -> None:
    instance.started()
    uid = instance.create("sleep", seconds=2)
    eventually(lambda: instance.task(uid)["status"] == "running")
    instance.interrupt()
    assert instance.wait() == 0
    assert instance.started().succeeded(uid)
    assert instance.task(uid)["attempt"] == 1


def test_a_signal_during_the_start_is_not_lost(instance: Instance) -> None:
    instance.start()
    eventually(lambda: instance.kinds()["redis"])
    instance.terminate()
    assert instance.wait() == 0
    instance.is_gone()


@pytest.mark.parametrize("command", ["decr", "stop", "restart"])
def test_what_dies_while_runners_finish_their_tasks_is_replaced(instance: Instance, command: str) -> None:
    instance.started()
    uids = [instance.create("sleep", seconds=8) for _ in range(2)]
    eventually(lambda: all(instance.task(uid)["status"] == "running" for uid in uids))
    runners, arbiter = instance.kinds()["runner"], min(instance.kinds()["web"])
    assert "error" not in instance.circusctl(command, "sandbox-runner")
    os.kill(arbiter.pid, signal.SIGKILL)
    eventually(lambda: instance.circusctl("list", "sandbox").strip() not in ("", str(arbiter.pid)), 2)
    assert all(runner.alive for runner in runners)
    eventually(lambda: all(instance.succeeded(uid) for uid in uids), 20)
    assert all(instance.task(uid)["attempt"] == 1 for uid in uids)


def test_the_oldest_go_when_there_are_to_be_fewer(instance: Instance) -> None:
    before = instance.started().kinds()["runner"]
    assert instance.circusctl("incr", "sandbox-runner", "--waiting") == "3\n"
    [third] = eventually(lambda: set(instance.kinds()["runner"]) - set(before))
    assert instance.circusctl("decr", "sandbox-runner", "2", "--waiting") == "1\n"
    eventually(lambda: instance.kinds()["runner"] == [third])


@pytest.mark.parametrize("command", [("stop", "sandbox-runner"), ("restart", "sandbox-runner"), ("stop",)])
def test_a_signal_does_not_wait_for_a_command_that_only_waits(instance: Instance, command: tuple[str, ...]) -> None:
    kinds = instance.started().kinds()
    uid = instance.create("sleep", seconds=6)
    eventually(lambda: instance.task(uid)["status"] == "running")
    assert instance.circusctl(*command) == "ok\n"
    instance.terminate()
    eventually(lambda: not any(process.alive for process in kinds["web"]), 5)
    assert any(process.alive for process in kinds["runner"]), "its task has not ended"
    assert deaths(kinds) == IN_ORDER
    assert instance.wait() == 0
    instance.is_gone()
    assert instance.started().task(uid)["attempt"] == 1


def test_what_a_process_started_goes_with_it(instance: Instance) -> None:
    """A runner that dies of its alarm, or is killed, cannot tell its own children."""
    (instance.home.parent / "leaving.py").write_text(
        "import subprocess\n"
        "from service import task\n\n"
        "@task('leave')\n"
        "def leave(context) -> int:\n"
        "    return subprocess.Popen(['sleep', '600']).pid\n"
    )
    instance.environment["SANDBOX_TASKS"] = "leaving"
    instance.started()
    uid = instance.create("leave")
    eventually(lambda: instance.succeeded(uid))
    assert instance.stop() == 0
    instance.is_gone()


def test_stop_without_a_name_stops_in_order_and_start_starts_again(instance: Instance) -> None:
    kinds = instance.started().kinds()
    assert instance.circusctl("stop") == "ok\n"
    assert deaths(kinds) == IN_ORDER
    assert instance.circusctl("start", "--waiting") == "ok\n"
    eventually(instance.is_ready)


def test_restart_without_a_name_stops_in_order_and_starts_again(instance: Instance) -> None:
    kinds = instance.started().kinds()
    eventually(lambda: instance.circusctl("restart") == "ok\n")
    assert deaths(kinds) == IN_ORDER
    eventually(instance.is_ready, 20)
    assert instance.stop() == 0
    instance.is_gone()


def test_what_dies_is_replaced(instance: Instance) -> None:
    instance.started()
    for kind in IN_ORDER:
        before = instance.kinds()[kind]
        killed, number = min(before), len(before)
        os.kill(killed.pid, signal.SIGKILL)
        eventually(lambda kind=kind, killed=killed, number=number: len({*instance.kinds()[kind]} - {killed}) >= number)
        eventually(instance.is_ready)
        uid = instance.create("echo")
        eventually(lambda uid=uid: instance.succeeded(uid))


def test_a_second_one_on_the_same_folder_says_so(instance: Instance) -> None:
    instance.started()
    second = instance.run()
    assert second.returncode == 1
    assert second.stderr == (
        f"sandbox: another sandbox (process {instance.pid}) runs on {instance.home}. "
        f"Stop it, or set SANDBOX_HOME and SANDBOX_PORT for this one.\n"
    )
    assert second.stdout == ""
    plain = instance.run(*CIRCUSD, str(ROOT / "circus.ini"), **instance.variables())
    assert (plain.returncode, plain.stderr) == (1, second.stderr)
    assert instance.is_ready()


def test_a_second_one_says_so_though_the_folder_of_the_lock_was_removed(instance: Instance) -> None:
    instance.started()
    runner = instance.kinds()["runner"]
    (instance.home / "run").rename(instance.home / "away")
    second = instance.run()
    assert (second.returncode, second.stdout) == (1, "")
    assert f"another sandbox (process {instance.pid}) runs on {instance.home}, but its folder" in second.stderr
    assert instance.kinds()["runner"] == runner and instance.is_running()


def test_the_folder_is_free_as_soon_as_circusd_is_gone(instance: Instance) -> None:
    instance.started()
    assert instance.stop() == 0
    instance.started()


def test_two_redis_never_serve_the_same_folder(instance: Instance) -> None:
    [first] = instance.started().kinds()["redis"]
    with subprocess.Popen([*SANDBOX, "redis"], env=instance.environment) as second:
        for _ in seconds(1):
            assert instance.kinds()["redis"] == [first]
        second.terminate()


def test_a_taken_port_is_named(instance: Instance, make_instance: Callable[..., Instance]) -> None:
    instance.started()
    other = make_instance("b").run(SANDBOX_PORT=str(instance.port))
    assert other.returncode == 1
    assert (
        other.stderr == f"sandbox: SANDBOX_PORT is {instance.port}, which is in use on 127.0.0.1. Choose a free port.\n"
    )


def test_without_tokens_only_loopback_is_allowed(instance: Instance) -> None:
    refused = instance.run(SANDBOX_BIND="0.0.0.0")
    assert refused.returncode == 1
    assert refused.stderr.startswith("sandbox: SANDBOX_BIND is '0.0.0.0'; without SANDBOX_TOKENS only loopback")
    file = instance.home.parent / "tokens"
    empty = instance.run(SANDBOX_BIND="0.0.0.0", SANDBOX_TOKENS=str(file))
    assert empty.returncode == 1
    assert f"SANDBOX_TOKENS is '{file}', which holds no token." in empty.stderr


def test_with_a_token_it_listens_everywhere(instance: Instance) -> None:
    instance.environment |= {"SANDBOX_BIND": "0.0.0.0", "SANDBOX_TOKENS": str(instance.home.parent / "tokens")}
    assert instance.run(*SANDBOX, "token", "add", "ci", "--scope", "write").returncode == 0
    instance.started()
    assert instance.call("GET", "/tasks")[0] == 401
    eventually(lambda: "Bearer <token>" in instance.output)


def test_an_unusable_setting_is_one_line(instance: Instance) -> None:
    wrong = instance.run(SANDBOX_RUNNERS="many")
    assert wrong.returncode == 1
    assert wrong.stderr == "sandbox: SANDBOX_RUNNERS is 'many'; allowed is a number from 1 to 256.\n"
    long = instance.run(SANDBOX_HOME="/" + "x" * 120)
    assert long.returncode == 1
    assert "too long by" in long.stderr
    file = instance.home.parent / "file"
    file.touch()
    blocked = instance.run(SANDBOX_HOME=str(file))
    assert blocked.returncode == 1
    assert blocked.stderr.startswith(f"sandbox: SANDBOX_HOME is '{file}', which cannot be used:")


def test_circusd_with_arguments_of_ones_own_and_circusctl_work_after_env(instance: Instance) -> None:
    kinds = instance.started(*CIRCUSD, str(ROOT / "circus.ini"), environment=instance.variables()).kinds()
    assert instance.circusctl("status") == ALL_ACTIVE
    eventually(lambda: instance.succeeded(instance.create("echo")), pause=0.1)
    instance.interrupt()
    assert deaths(kinds) == IN_ORDER
    assert instance.wait() == 0
    instance.is_gone()


@pytest.mark.parametrize(("variable", "least"), [("SANDBOX_RUNNER_STOP", "15"), ("SANDBOX_WEB_STOP", "35")])
def test_circus_must_wait_for_longer_than_what_it_stops_takes(instance: Instance, variable: str, least: str) -> None:
    refused = instance.run(*CIRCUSD, str(ROOT / "circus.ini"), **instance.variables() | {variable: "12"})
    assert refused.returncode == 1
    assert f"sandbox: {variable} is 12; it must be above {least}:" in refused.stderr
    instance.is_gone()


def test_circusd_with_arguments_of_ones_own_needs_no_environment(instance: Instance) -> None:
    instance.started(*CIRCUSD, "--pidfile", str(instance.home / "pid"), str(ROOT / "circus.ini"))
    assert instance.stop() == 0


def test_circusd_logs_as_much_as_the_setting_says(instance: Instance) -> None:
    instance.environment["SANDBOX_LOG_LEVEL"] = "debug"
    log = instance.started().home / "log" / "circus.log"
    eventually(lambda: '"level":"debug"' in log.read_text())


def test_circusd_with_a_relative_home_serves_from_it(instance: Instance) -> None:
    environment = instance.environment | {"SANDBOX_HOME": instance.home.name}
    instance.start(*CIRCUSD, str(ROOT / "circus.ini"), environment=environment)
    eventually(instance.is_ready, 30)
    uid = instance.create("echo", message="home")
    eventually(lambda: instance.succeeded(uid))
    assert (instance.home / "run" / "redis.sock").exists()
    assert instance.stop() == 0


def test_plain_circusd_says_how_it_is_to_be_started(instance: Instance) -> None:
    plain = str(Path(sys.executable).with_name("circusd"))
    all_that_it_asks_for = environment.variables(settings.read(instance.environment))
    refused = instance.run(plain, str(ROOT / "circus.ini"), **all_that_it_asks_for)
    assert refused.returncode == 1
    assert "Start it by `sandbox run`, or with arguments of your own: sandbox circusd " in refused.stderr
    without = instance.run(plain, str(ROOT / "circus.ini"), **instance.variables())
    assert without.returncode == 1
    assert "SANDBOX_IS_STARTED_BY_sandbox_run_OR_sandbox_circusd" in without.stderr.splitlines()[-1]
    assert not instance.home.exists()


def test_circusd_does_not_go_to_the_background(instance: Instance) -> None:
    refused = instance.run(*CIRCUSD, "--daemon", str(ROOT / "circus.ini"))
    assert refused.returncode == 1
    assert "--daemon is not possible" in refused.stderr
    instance.is_gone()


LACKING = """
import sys
from circus.arbiter import Arbiter
del Arbiter._stop_watchers
from service.cli.main import main
sys.exit(main(["run"]))
"""


def test_a_circus_that_lacks_a_name_is_refused_with_that_name(instance: Instance) -> None:
    refused = instance.run(sys.executable, "-c", LACKING)
    assert refused.returncode == 1
    assert "circus 0.19.0 has no circus.arbiter:Arbiter._stop_watchers, which sandbox needs (" in refused.stderr
    assert refused.stderr.endswith("Install circus 0.19.0.\n")
    instance.is_gone()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("hooks.before_start = service.nowhere.hook", "No module named 'service.nowhere'"),
        ("hooks.before_start = service.supervise.hooks.nothing", "nothing"),
    ],
)
def test_a_watcher_that_cannot_be_made_ends_the_start(instance: Instance, line: str, reason: str) -> None:
    broken = instance.home.parent / "circus.ini"
    broken.write_text(
        (ROOT / "circus.ini").read_text().replace("hooks.before_start = service.supervise.hooks.before_start", line, 1)
    )
    refused = instance.run(*CIRCUSD, str(broken), **instance.variables())
    assert refused.returncode == 1
    assert reason in refused.stderr
    assert refused.stderr.endswith("could not make the watcher redis; the reason stands above.\n")
    instance.is_gone()


def test_a_port_taken_at_the_last_moment_ends_circusd(
    instance: Instance, make_instance: Callable[..., Instance]
) -> None:
    instance.started()
    other = make_instance("b")
    elsewhere = other.home.parent / "circus.ini"
    elsewhere.write_text((ROOT / "circus.ini").read_text().replace("$(circus.env.SANDBOX_PORT)", str(instance.port)))
    refused = other.run(*CIRCUSD, str(elsewhere), **other.variables())
    assert refused.returncode == 1
    assert "could not listen" in refused.stderr
    other.is_gone()


def test_with_a_redis_of_ones_own_none_is_started(make_instance: Callable[..., Instance], folder: Path) -> None:
    (folder / "redis").mkdir()
    server = RedisServer(folder / "redis").start()
    try:
        instance = make_instance(REDIS_URL=server.url).started()
        assert instance.kinds()["redis"] == []
        uid = instance.create("echo")
        eventually(lambda: instance.succeeded(uid))
        assert server.client().exists(uid)
        shown = ALL_ACTIVE.replace("redis: active", "redis: stopped").replace("sync: active", "sync: stopped")
        assert instance.circusctl("status") == shown
        assert instance.stop() == 0
        assert server.client().ping()
    finally:
        server.stop()


def test_a_dollar_in_a_setting_reaches_every_process(make_instance: Callable[..., Instance], folder: Path) -> None:
    (folder / "redis").mkdir()
    server = RedisServer(folder / "redis").start()
    try:
        server.client().config_set("requirepass", "a$HOME$NONE")
        instance = make_instance(REDIS_URL=server.url.replace("unix://", "unix://:a$HOME$NONE@")).started()
        uid = instance.create("echo")
        eventually(lambda: instance.succeeded(uid))
    finally:
        server.stop()


def test_a_folder_may_have_any_name(make_instance: Callable[..., Instance]) -> None:
    instance = make_instance('it\'s "a" $HOME #1; %s').started()
    uid = instance.create("echo")
    eventually(lambda: instance.succeeded(uid))
    assert instance.circusctl("status") == ALL_ACTIVE


def test_two_instances_run_side_by_side(make_instance: Callable[..., Instance]) -> None:
    one, two = make_instance("a").started(), make_instance("b").started()
    uid = one.create("echo")
    eventually(lambda: one.succeeded(uid))
    assert two.call("GET", f"/tasks?task_id={uid}")[0] == 404
    assert one.stop() == 0
    assert two.is_ready()
    uid = two.create("echo")
    eventually(lambda: two.succeeded(uid))


def test_yesterdays_tasks_are_there_at_the_next_start(instance: Instance) -> None:
    instance.started()
    uid = instance.create("echo", message="kept")
    eventually(lambda: instance.succeeded(uid))
    instance.interrupt()
    assert instance.wait() == 0
    instance.started()
    assert instance.task(uid)["result"] == "kept"


def test_a_start_that_is_not_ready_says_why(make_instance: Callable[..., Instance], folder: Path) -> None:
    instance = make_instance(REDIS_URL=f"unix://{folder}/nobody.sock").start()
    eventually(lambda: "sandbox is not ready after 10 s: " in instance.output, 25)
    assert "edis" in instance.output
    assert instance.stop() == 0
