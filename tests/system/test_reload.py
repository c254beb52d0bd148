"""The gated reload: a good release is swapped in, a broken one is refused, and no client notices either."""

import contextlib
import http.client
import json
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.supervise.reload import gentle
from tests.servers import BUSY, RedisServer, eventually
from tests.system.events import Events
from tests.system.instance import Instance, Process
from tests.system.load import load
from tests.system.releases import Release, Releases

LEAVE_A_CHILD = "import subprocess; subprocess.Popen(['sleep', '600'], start_new_session={})"


@pytest.fixture
def instance(released: Instance) -> Instance:
    return released


def mark(instance: Instance) -> object:
    return instance.call("GET", "/health/ready")[1].get("mark")


def pids(processes: list[Process]) -> set[int]:
    return {process.pid for process in processes}


def log(instance: Instance) -> str:
    return (instance.home / "log" / "circus.log").read_text()


def first_request(instance: Instance, worker: Process) -> tuple[object, ...]:
    lines = map(json.loads, (instance.home / "log" / "web.log").read_text().splitlines())
    first = next(line for line in lines if line["process"] == f"web/{worker.pid}" and "path" in line)
    return first["path"], first["status"], first["remote"]


def test_a_good_release_is_swapped_in_under_load(instance: Instance, releases: Releases) -> None:
    before = instance.started().kinds()
    with load(instance, pause=0):
        for name in ("two", "three"):
            releases.switch(releases.make(name).named(name))
            done = instance.ask("reload", "sandbox")
            assert (done.returncode, done.stdout, done.stderr) == (0, "ok\n", "")
            eventually(lambda name=name: mark(instance) == name)
    eventually(instance.is_whole)
    after = instance.kinds()
    assert not pids(after["web"]) & pids(before["web"])
    assert after["runner"] == before["runner"] and after["redis"] == before["redis"]
    assert os.readlink(f"/proc/{min(after['web']).pid}/cwd") == str(releases.link.resolve())
    assert [first_request(instance, worker) for worker in sorted(after["web"])[1:]] == [("/health/ready", 200, "")] * 2
    assert instance.stop() == 0
    instance.is_gone()


def test_ok_means_that_only_the_new_release_answers(instance: Instance, releases: Releases) -> None:
    """New connections and those that were open before: what only the new release knows is taken at once."""
    instance.started()
    for number in range(4):
        kept = [http.client.HTTPConnection("127.0.0.1", instance.port, timeout=10) for _ in range(6)]
        for client in kept:
            assert posted(client, "echo") == 201
        type_ = f"new.{number}"
        lines = f"@task({type_!r})\ndef new(context: Context) -> int:\n    return {number}"
        releases.switch(releases.make(f"new-{number}").add("service/builtin/demo.py", lines))
        assert instance.circusctl("reload", "sandbox") == "ok\n"
        fresh = [http.client.HTTPConnection("127.0.0.1", instance.port, timeout=10) for _ in range(12)]
        assert {posted(client, type_) for client in [*fresh, *kept]} == {201}
        for client in [*fresh, *kept]:
            client.close()


def posted(client: http.client.HTTPConnection, type_: str) -> int:
    """A connection that has been closed is opened anew, as a client does it."""
    if client.sock is not None and select.select([client.sock], [], [], 0)[0]:
        client.close()
    client.request("POST", "/tasks", json.dumps({"type": type_}), {"Content-Type": "application/json"})
    answer = client.getresponse()
    answer.read()
    return answer.status


BROKEN = {
    "does not import": ("service/web/app.py", "raise ImportError('a module is missing')", "a module is missing"),
    "raises what gunicorn shows in one line": (
        "service/web/app.py",
        "raise RuntimeError('a wrong state')",
        "RuntimeError: a wrong state",
    ),
    "has a wrong configuration": ("conf/gunicorn.py", "workers = 1 / 0", "ZeroDivisionError"),
    "fails its check": (
        "service/store/store.py",
        "from service.errors import StoreUnavailable\ndef fail(self): raise StoreUnavailable\nStore.check = fail",
        "503",
    ),
    "writes a layout that the present one cannot read": (
        "service/store/layout.py",
        "Layout.__init__.__kwdefaults__.update(reads=4, writes=4)",
        "first install a release in between",
    ),
    "has a fault in its check": (
        "service/web/api/health.py",
        "def notices(folder): 1 / 0",
        "ZeroDivisionError: division by zero",
    ),
    "has a fault around it": ("service/cli/wsgi.py", "app.wsgi_app = lambda *_: 1 / 0", "ZeroDivisionError"),
    "exits": ("service/web/app.py", "import os; os._exit(7)", "ended before it was ready"),
    "is killed": ("service/web/app.py", "import os; os.kill(os.getpid(), 9)", "ended before it was ready"),
    "leaves a child": ("service/web/app.py", f"{LEAVE_A_CHILD.format(False)}; raise ImportError('late')", "late"),
    "hides a child": ("service/web/app.py", f"{LEAVE_A_CHILD.format(True)}; raise ImportError('late')", "late"),
    "hangs in gunicorn": ("service/web/app.py", "import time; time.sleep(600)", "not ready within 10 s"),
    "hangs in a worker": ("service/cli/wsgi.py", "import time; time.sleep(600)", "not ready within 10 s"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_release_that_is_broken_is_refused_under_load(instance: Instance, releases: Releases, kind: str) -> None:
    file, line, reason = BROKEN[kind]
    instance.started()
    eventually(lambda: len(instance.processes()) == 8)  # who tells of the start is gone
    before = sorted(instance.processes())
    broken = releases.make("broken").add(file, line)
    releases.switch(broken)
    with load(instance):
        done = instance.ask("reload", "sandbox")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith(f"error: sandbox: {broken.path} is refused: ")
    assert reason in done.stderr
    if kind.startswith("hangs"):
        assert file in done.stderr and "time.sleep(600)" in done.stderr
    assert sorted(instance.processes()) == before
    assert not list((instance.home / "run" / "trial").iterdir())
    assert mark(instance) == "one"
    assert "is refused" in log(instance)


def test_after_a_refusal_what_crashes_is_replaced_by_the_accepted_release(
    instance: Instance, releases: Releases
) -> None:
    instance.started()
    releases.switch(releases.make("two").named("two"))
    assert instance.circusctl("reload", "sandbox") == "ok\n"
    eventually(instance.is_whole)
    before = instance.kinds()["web"]
    releases.switch(releases.make("broken").add("service/web/app.py", "raise ImportError"))
    assert instance.ask("reload", "sandbox").returncode == 3
    os.kill(min(before).pid, signal.SIGKILL)
    eventually(lambda: len(after := instance.kinds()["web"]) == 3 and not pids(after) & pids(before))
    assert mark(instance) == "two"


def test_code_that_is_broken_in_place_hurts_no_crashed_worker(instance: Instance, releases: Releases) -> None:
    arbiter, *workers = sorted(instance.started().kinds()["web"])
    Release.at(releases.link.resolve()).add("service/web/app.py", "raise ImportError('edited in place')")
    for worker in workers:
        os.kill(worker.pid, signal.SIGKILL)
    eventually(lambda: instance.is_whole() and not any(worker.alive for worker in workers))
    assert arbiter.alive and instance.call("GET", "/health/ready")[0] == 200


def test_what_crashes_while_a_release_is_on_trial_is_replaced(instance: Instance, releases: Releases) -> None:
    arbiter = min(instance.started().kinds()["web"])
    releases.switch(releases.make("slow").add("service/cli/wsgi.py", "import time; time.sleep(600)"))
    with asking(instance, "reload", "sandbox") as answer:
        eventually(lambda: len(instance.kinds()["web"]) == 6)
        os.kill(arbiter.pid, signal.SIGKILL)
        eventually(lambda: "200" in str(instance.call("GET", "/health/live")[0]) and not arbiter.alive)
        eventually(lambda: len(instance.kinds()["web"]) == 6, 5)
        assert instance.circusctl("list", "sandbox").strip() != str(arbiter.pid)
    assert "not ready within 10 s" in answer.text
    assert mark(instance) == "one"


def test_circusd_is_killed_while_a_release_is_on_trial(instance: Instance, releases: Releases) -> None:
    before = instance.started().kinds()["web"]
    releases.switch(releases.make("slow").add("service/cli/wsgi.py", "import time; time.sleep(600)"))
    with asking(instance, "--timeout", "1", "reload", "sandbox"):
        eventually(lambda: len(instance.kinds()["web"]) == 6)
        instance.kill()
    releases.switch(releases.make("two").named("two"))
    instance.start()
    eventually(lambda: not any(process.alive for process in before))
    eventually(instance.is_ready, 20)  # it would be waited for until SANDBOX_WEB_STOP
    assert mark(instance) == "two"
    eventually(instance.is_whole)
    assert instance.stop() == 0
    instance.is_gone()


class asking:
    """A command in the background; its answer when it is over."""

    def __init__(self, instance: Instance, *words: str) -> None:
        self.text = ""
        self._thread = threading.Thread(target=self._ask, args=(instance, words))

    def _ask(self, instance: Instance, words: tuple[str, ...]) -> None:
        self.text = instance.circusctl(*words)

    def __enter__(self) -> "asking":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.join()


def test_a_second_reload_is_refused_while_one_is_under_way(instance: Instance, releases: Releases) -> None:
    instance.environment["SANDBOX_RELOAD"] = "60"
    instance.started()
    go_on = instance.home / "go-on"
    waits = f"import os, time\n\nwhile not os.path.exists({str(go_on)!r}):\n    time.sleep(0.01)"
    releases.switch(releases.make("slow").change("service/cli/wsgi.py", "import os", waits))
    with asking(instance, "reload", "sandbox") as first:
        eventually(lambda: len(instance.kinds()["web"]) > 3, 10 * BUSY)
        for words in (("reload", "sandbox"), ("reload",)):
            second = instance.ask(*words)
            assert second.returncode == 3
            assert second.stderr == "error: a reload of sandbox is under way; wait for its outcome\n"
        os.kill(instance.pid, signal.SIGHUP)
        eventually(lambda: "HUP is not obeyed: a reload of sandbox is under way" in log(instance))
        go_on.touch()
    assert first.text == "ok\n", "circusctl waits longer than its own time-out"


def test_a_trial_that_cannot_be_accepted_changes_nothing(instance: Instance, releases: Releases) -> None:
    instance.environment["SANDBOX_RELOAD"] = "60"
    before = instance.started().kinds()
    slow = releases.make("slow").change("service/cli/wsgi.py", "import os", "import os, time\n\ntime.sleep(3)")
    releases.switch(slow)
    with load(instance), asking(instance, "reload", "sandbox") as answer:
        [folder] = eventually(lambda: list(instance.home.glob("run/trial/*")))
        folder.with_suffix(".over").mkdir()
        (folder.with_suffix(".over") / "in the way").touch()
    assert answer.text.startswith("error: the reload has failed: OSError(")
    assert "Directory not empty" in answer.text and "Directory not empty" in log(instance)
    assert instance.kinds() == before
    assert instance.circusctl("reload", "sandbox") == "ok\n"


def test_a_mark_that_cannot_be_removed_hinders_neither_a_reload_nor_a_stop(instance: Instance) -> None:
    before = instance.started().kinds()["web"]
    (instance.home / "run" / "throttled" / "sandbox").mkdir(parents=True)
    with load(instance):
        assert instance.circusctl("reload", "sandbox") == "ok\n"
        eventually(lambda: len(instance.kinds()["web"]) == 3 and not pids(instance.kinds()["web"]) & pids(before))
    assert instance.stop() == 0
    instance.is_gone()


def test_a_stop_in_the_middle_of_a_reload_stops_everything(instance: Instance, releases: Releases) -> None:
    instance.started()
    releases.switch(releases.make("slow").add("service/cli/wsgi.py", "import time; time.sleep(600)"))
    with asking(instance, "reload", "sandbox"):
        eventually(lambda: len(instance.kinds()["web"]) == 6)
        began = time.monotonic()
        assert instance.stop() == 0
        assert time.monotonic() - began < 8
    instance.is_gone()


@pytest.mark.parametrize("name", ["sandbox", "sandbox-runner"])
def test_a_stop_right_after_a_reload_leaves_nothing(instance: Instance, name: str) -> None:
    instance.started()
    assert instance.circusctl("reload", name) == "ok\n"
    assert instance.stop() == 0
    instance.is_gone()


def test_a_stop_waits_for_what_a_reload_has_let_go(instance: Instance) -> None:
    kinds = instance.started().kinds()
    arbiter = min(kinds["web"])
    os.kill(arbiter.pid, signal.SIGSTOP)
    with asking(instance, "reload", "sandbox"):
        eventually(lambda: "serves, after" in log(instance), 10 * BUSY)
        instance.terminate()
        until = time.monotonic() + 4
        while time.monotonic() < until:
            assert all(process.alive for process in kinds["runner"]), "they are told when the web is gone"
        os.kill(arbiter.pid, signal.SIGCONT)
        assert instance.wait() == 0
    instance.is_gone()


def test_task_modules_may_lie_in_the_release(instance: Instance, releases: Releases) -> None:
    lines = "from service import task\n\n\n@task('own')\ndef own(context) -> int:\n    return 1\n"
    (releases.link.resolve() / "own_tasks.py").write_text(lines)
    instance.environment["SANDBOX_TASKS"] = "own_tasks"
    instance.started()
    uid = instance.create("own")
    eventually(lambda: instance.succeeded(uid))


def test_a_start_needs_a_release(instance: Instance) -> None:
    refused = instance.run(SANDBOX_RELEASE=str(instance.home))
    assert refused.returncode == 1
    assert f"SANDBOX_RELEASE is '{instance.home}'" in refused.stderr
    instance.is_gone()


def test_runners_are_reloaded_too(instance: Instance, releases: Releases) -> None:
    before = instance.started().kinds()
    two = releases.make("two").change("service/builtin/demo.py", "return message", 'return f"two: {message}"')
    releases.switch(two)
    done = instance.ask("--json", "reload", "sandbox-runner")
    told = json.loads(done.stdout)["reloaded"]["sandbox-runner"]
    assert told["release"] == str(two.path)
    assert set(told["stopping"]) == pids(before["runner"])
    eventually(lambda: pids(instance.kinds()["runner"]) == set(told["started"]))
    uid = instance.create("echo", message="x")
    eventually(lambda: instance.succeeded(uid))
    assert instance.task(uid)["result"] == "two: x"
    assert instance.kinds()["web"] == before["web"]


def test_runners_that_do_not_know_their_types_are_refused(instance: Instance, releases: Releases) -> None:
    before = instance.started().kinds()
    releases.switch(releases.make("broken").add("service/builtin/demo.py", "raise ImportError('no such tool')"))
    done = instance.ask("reload", "sandbox-runner")
    assert done.returncode == 3
    assert "no such tool" in done.stderr
    assert instance.kinds() == before


def test_a_runner_that_hangs_is_refused_and_has_said_where(instance: Instance, releases: Releases) -> None:
    before = instance.started().kinds()
    releases.switch(releases.make("broken").add("service/builtin/demo.py", "import time; time.sleep(600)"))
    done = instance.ask("reload", "sandbox-runner")
    assert done.returncode == 3 and "not ready within 10 s" in done.stderr
    assert "service/builtin/demo.py" in done.stderr and "time.sleep(600)" in done.stderr
    assert instance.kinds() == before


HOLD_THE_INTERPRETER = "import re; re.match('(a+)+$', 'a' * 64 + 'b')"


@pytest.mark.parametrize("watcher", ["sandbox", "sandbox-runner"])
def test_what_hangs_and_holds_the_interpreter_is_shown_too(
    instance: Instance, releases: Releases, watcher: str
) -> None:
    before = instance.started().kinds()
    releases.switch(releases.make("broken").add("service/builtin/demo.py", HOLD_THE_INTERPRETER))
    done = instance.ask("reload", watcher)
    assert done.returncode == 3 and "not ready within 10 s" in done.stderr
    *_, last = [line for line in done.stderr.splitlines() if "service/builtin/demo.py" in line]
    assert "in <module>" in last
    assert instance.kinds() == before


@pytest.mark.parametrize(("line", "ending"), [("os._exit(7)", "code 7"), ("os.kill(os.getpid(), 11)", "SIGSEGV")])
def test_how_a_process_on_trial_has_ended_is_told(
    instance: Instance, releases: Releases, line: str, ending: str
) -> None:
    instance.started()
    releases.switch(releases.make("broken").add("service/builtin/demo.py", f"import os; {line}"))
    refused = instance.ask("reload", "sandbox").stderr
    assert "Worker (pid:" in refused and ending in refused
    refused = instance.ask("reload", "sandbox-runner").stderr
    told = "has ended with code 7" if ending == "code 7" else "was ended by signal 11"
    assert "ended before it was ready: process " in refused and told in refused


FORGET = "import os\nfor each in [each for each in os.environ if each.startswith('SANDBOX_')]: del os.environ[each]"


@pytest.mark.parametrize("watcher", ["sandbox", "sandbox-runner"])
def test_task_types_that_change_the_environment_do_not_make_a_release_begin_before_it_is_accepted(
    instance: Instance, releases: Releases, watcher: str
) -> None:
    before = instance.started().kinds()
    releases.switch(releases.make("two").named("two").add("service/builtin/demo.py", FORGET))
    assert instance.circusctl("reload", watcher) == "ok\n"
    releases.switch(releases.make("broken").named("broken").add("service/builtin/demo.py", f"{FORGET}; 1 / 0"))
    assert "ZeroDivisionError" in instance.ask("reload", watcher).stderr
    changed = "web" if watcher == "sandbox" else "runner"
    assert {kind for kind, found in instance.kinds().items() if found != before[kind]} == {changed}


def test_runners_that_do_not_load_are_refused_though_a_thread_of_theirs_goes_on(
    instance: Instance, releases: Releases
) -> None:
    instance.started()
    thread = "import threading, time; threading.Thread(target=time.sleep, args=(600,)).start()"
    releases.switch(releases.make("broken").add("service/builtin/demo.py", f"{thread}; raise ImportError('late')"))
    done = instance.ask("reload", "sandbox-runner")
    assert done.returncode == 3 and "late" in done.stderr and "ended before it was ready" in done.stderr


@pytest.mark.parametrize("way", ["circusctl", "HUP"])
def test_without_a_name_all_are_reloaded_but_redis(instance: Instance, releases: Releases, way: str) -> None:
    before = instance.started().kinds()
    releases.switch(releases.make("two").named("two"))
    with load(instance, pause=0):
        if way == "HUP":
            os.kill(instance.pid, signal.SIGHUP)
        else:
            assert instance.circusctl("reload") == "ok\n"
        eventually(lambda: mark(instance) == "two", 20 * BUSY)
        eventually(lambda: not any(process.alive for process in before["web"] + before["runner"]), 10 * BUSY)
    after = instance.kinds()
    assert [len(after[kind]) for kind in ("web", "runner", "redis")] == [3, 2, 1]
    assert after["redis"] == before["redis"]


def test_a_refusal_ends_a_reload_of_all(instance: Instance, releases: Releases) -> None:
    before = instance.started().kinds()
    releases.switch(releases.make("broken").add("service/builtin/demo.py", "raise ImportError"))
    assert instance.circusctl("reload").startswith("error: sandbox-runner: ")
    assert instance.kinds() == before


def test_nothing_doubles_redis(instance: Instance) -> None:
    before = instance.started().kinds()["redis"]
    for words in (("reload", "redis"), ("incr", "redis"), ("set", "redis", "max_age", "100000")):
        said = instance.circusctl(*words)
        if words[0] == "reload":
            assert said == "error: redis has no reload. `circusctl restart redis` stops and starts it.\n"
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            assert instance.kinds()["redis"] == before, words


def test_set_goes_through_the_gate(instance: Instance) -> None:
    before = instance.started().kinds()["web"]
    with load(instance):
        assert instance.circusctl("set", "sandbox", "max_age", "100000") == "ok\n"
        eventually(lambda: len(instance.kinds()["web"]) == 3 and not pids(instance.kinds()["web"]) & pids(before))


def test_a_reload_does_not_mind_a_runner_that_was_taken_away_and_finishes_its_task(instance: Instance) -> None:
    instance.started()
    uids = [instance.create("sleep", seconds=4) for _ in range(2)]
    eventually(lambda: all(instance.task(uid)["status"] == "running" for uid in uids))
    assert "error" not in instance.circusctl("decr", "sandbox-runner")
    assert instance.circusctl("reload", "sandbox-runner") == "ok\n"
    eventually(lambda: len(instance.kinds()["runner"]) == 1)
    assert all(instance.succeeded(uid) and instance.task(uid)["attempt"] == 1 for uid in uids)


def test_without_runners_it_is_not_ready_and_the_web_can_be_reloaded_all_the_same(instance: Instance) -> None:
    instance.started()
    eventually(lambda: instance.call("GET", "/health/ready")[1]["runners"] == 2)
    assert instance.circusctl("stop", "sandbox-runner", "--waiting").startswith("ok")
    status, body = instance.call("GET", "/health/ready")
    assert (status, set(body["failing"])) == (503, {"runners"})
    assert instance.circusctl("reload", "sandbox") == "ok\n"
    assert instance.circusctl("start", "sandbox-runner") == "ok\n"
    eventually(instance.is_ready, 30)


def test_a_stopped_watcher_and_one_that_is_none_have_no_reload(instance: Instance) -> None:
    instance.started()
    assert instance.circusctl("stop", "sandbox-runner", "--waiting").startswith("ok")
    assert instance.circusctl("reload", "sandbox-runner").startswith("error: sandbox-runner is stopped.")
    assert instance.circusctl("reload", "sandbx") == "error: program sandbx not found\n"


def test_a_watcher_that_is_stopping_has_no_reload_and_the_service_can_still_be_stopped(instance: Instance) -> None:
    instance.started()
    with half_a_request(instance):
        assert instance.circusctl("stop", "sandbox") == "ok\n"
        assert instance.circusctl("reload", "sandbox").startswith("error: sandbox is stopping.")
        assert "sandbox-runner" in instance.circusctl("status")
    assert instance.stop() == 0
    instance.is_gone()


@contextlib.contextmanager
def half_a_request(instance: Instance) -> Iterator[None]:
    """It holds up the end of a web worker."""
    with socket.create_connection(("127.0.0.1", instance.port)) as client:
        client.sendall(b"POST /tasks HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{")
        time.sleep(0.2)
        yield


def test_a_watcher_without_processes_has_no_reload(instance: Instance, releases: Releases) -> None:
    instance.started()
    instance.circusctl("decr", "sandbox-runner", "2", "--waiting")
    releases.switch(releases.make("broken").add("service/runner/process.py", "raise ImportError"))
    assert instance.circusctl("reload", "sandbox-runner").startswith("error: sandbox-runner has no processes;")
    instance.circusctl("incr", "sandbox-runner", "2")
    uid = instance.create("echo")
    eventually(lambda: instance.succeeded(uid))


def test_what_was_stopped_while_another_was_on_trial_is_not_reloaded(instance: Instance, releases: Releases) -> None:
    instance.started()
    slow = releases.make("slow").add("service/builtin/demo.py", "import time; time.sleep(3)").named("slow")
    releases.switch(slow)
    answers: list[str] = []
    reload = threading.Thread(target=lambda: answers.append(instance.circusctl("reload")))
    reload.start()
    eventually(lambda: "is on trial" in log(instance))
    assert instance.circusctl("stop", "sandbox", "--waiting").startswith("ok")
    reload.join()
    assert "sandbox is stopped" in answers[0] and "sandbox-runner had been reloaded before" in answers[0]
    assert instance.circusctl("start", "sandbox") == "ok\n"
    eventually(lambda: mark(instance) == "one")


def test_a_start_of_what_runs_ends_none_of_its_processes(instance: Instance) -> None:
    """Also while circus waits before it replaces one that crashes again and again."""
    keep, other = instance.started().kinds()["runner"]
    throttled = instance.home / "run" / "throttled" / "sandbox-runner"

    def kill_the_others() -> bool:
        for runner in instance.kinds()["runner"]:
            if runner != keep:
                instance.circusctl("signal", "sandbox-runner", str(runner.pid), "kill")
        return throttled.exists()

    assert other.alive
    eventually(kill_the_others, 60, 0.1)
    uid = instance.create("sleep", seconds=2)
    eventually(lambda: instance.task(uid)["status"] == "running")
    assert instance.circusctl("start", "sandbox-runner") == "ok\n"
    eventually(lambda: instance.succeeded(uid))
    assert keep.alive and instance.task(uid)["crashes"] == 0


def test_a_release_has_its_own_interpreter(instance: Instance, releases: Releases) -> None:
    instance.started()
    two = releases.make("two").named("two")
    two.with_interpreter()
    releases.switch(two)
    assert instance.circusctl("reload", "sandbox") == "ok\n"
    assert (two.path / "called").exists()
    eventually(lambda: mark(instance) == "two")


def test_a_name_of_no_release_is_refused(instance: Instance, releases: Releases) -> None:
    instance.started()
    releases.link.unlink()
    done = instance.ask("reload", "sandbox")
    assert done.returncode == 3
    assert f"SANDBOX_RELEASE is '{releases.link}', which is not a folder.\n" in done.stderr


def test_a_new_start_takes_the_release_that_is_named_then(instance: Instance, releases: Releases) -> None:
    instance.started()
    releases.switch(releases.make("two").named("two"))
    assert mark(instance) == "one"
    assert instance.stop() == 0
    assert mark(instance.started()) == "two"


@pytest.mark.parametrize("file", ["circus.ini", "service/supervise/watcher.py"])
def test_it_says_when_circusd_itself_wants_a_restart(instance: Instance, releases: Releases, file: str) -> None:
    instance.started()
    releases.switch(releases.make("two"))
    assert "circusd" not in json.loads(instance.circusctl("--json", "reload", "sandbox"))
    releases.switch(releases.make("three").add(file, "# new"))
    wish = f"circusd itself wants a restart: it was started with another {file}"
    assert json.loads(instance.circusctl("--json", "reload", "sandbox"))["circusd"] == wish
    assert wish in log(instance)
    assert wish in instance.output


@pytest.fixture
def own_redis(folder: Path) -> Iterator[RedisServer]:
    (folder / "redis").mkdir()
    server = RedisServer(folder / "redis").start()
    yield server
    server.stop()


def test_without_redis_a_reload_is_refused_but_a_crashed_worker_is_replaced(
    instance: Instance, own_redis: RedisServer
) -> None:
    instance.environment["REDIS_URL"] = own_redis.url
    instance.started()
    assert instance.circusctl("reload", "sandbox") == "ok\n"
    own_redis.stop()
    assert "503" in instance.circusctl("reload", "sandbox")
    eventually(instance.is_whole)
    _, *workers = sorted(instance.kinds()["web"])
    os.kill(workers[0].pid, signal.SIGKILL)
    eventually(lambda: len(set(instance.kinds()["web"]) - {workers[0]}) == 3)
    after = instance.kinds()["web"]
    until = time.monotonic() + 3
    while time.monotonic() < until:
        assert instance.kinds()["web"] == after, "it came up, and serves"
    assert instance.call("GET", "/health/live")[0] == 200


def test_what_a_new_release_prints_later_is_kept_and_its_warnings_are_seen(
    instance: Instance, releases: Releases
) -> None:
    instance.started()
    two = releases.make("two").add("service/web/api/health.py", "import sys, logging")
    says = 'store.check(); print("printed", file=sys.stderr); logging.warning("warned")'
    releases.switch(two.change("service/web/api/health.py", "store.check()", says))
    assert instance.circusctl("reload", "sandbox") == "ok\n"
    eventually(lambda: instance.call("GET", "/health/ready")[0] == 200 and "warned" in instance.output)
    assert "printed" in (instance.home / "log" / "web.out").read_text()
    assert "printed" not in instance.output


def test_hup_to_the_arbiter_is_a_reload_and_a_broken_one_changes_nothing(
    instance: Instance, releases: Releases
) -> None:
    before = instance.started().kinds()["web"]
    with load(instance):
        releases.switch(releases.make("two").named("two"))
        os.kill(min(before).pid, signal.SIGHUP)
        eventually(lambda: mark(instance) == "two", 20)
        eventually(instance.is_whole)
        after = instance.kinds()["web"]
        releases.switch(releases.make("broken").add("service/web/app.py", "raise ImportError('broken')"))
        os.kill(min(after).pid, signal.SIGHUP)
        eventually(lambda: "broken" in log(instance))
        eventually(lambda: instance.kinds()["web"] == after)


def weight(process: Process) -> int:
    """Of its session, as Linux shares the processors."""
    return int(Path(f"/proc/{process.pid}/autogroup").read_text().split()[-1])


def test_what_is_on_trial_starts_gently_and_hurries_when_a_quarter_of_its_time_is_over(
    instance: Instance, releases: Releases
) -> None:
    before = instance.started().kinds()["web"]
    releases.switch(releases.make("slow").add("service/cli/wsgi.py", "import time; time.sleep(600)"))
    with asking(instance, "reload", "sandbox"):
        [arbiter, *_] = eventually(lambda: sorted(set(instance.kinds()["web"]) - set(before)))
        eventually(lambda: weight(arbiter) == gentle.LOW)
        eventually(lambda: weight(arbiter) == gentle.USUAL)
        assert arbiter.alive


def test_what_was_accepted_has_its_share_of_the_processors(instance: Instance) -> None:
    instance.started()
    assert instance.circusctl("reload") == "ok\n"
    kinds = instance.kinds()
    eventually(lambda: {weight(process) for process in kinds["web"] + kinds["runner"]} == {gentle.USUAL})


def test_hup_to_a_runner_is_a_reload_of_the_runners_and_a_broken_one_changes_nothing(
    instance: Instance, releases: Releases
) -> None:
    before = instance.started().kinds()["runner"]
    uid = instance.create("sleep", seconds=2)
    eventually(lambda: instance.task(uid)["status"] == "running")
    releases.switch(releases.make("two"))
    os.kill(before[0].pid, signal.SIGHUP)
    eventually(lambda: not any(runner.alive for runner in before), 30)
    assert instance.succeeded(uid) and instance.task(uid)["attempt"] == 1
    after = eventually(lambda: len(found := instance.kinds()["runner"]) == 2 and found)
    releases.switch(releases.make("broken").add("service/builtin/demo.py", "raise ImportError('broken')"))
    os.kill(after[0].pid, signal.SIGHUP)
    eventually(lambda: "broken" in log(instance))
    eventually(lambda: instance.kinds()["runner"] == after)
    eventually(lambda: "is refused" in (instance.home / "log" / "runner.out").read_text())


ALARM_AT_IMPORT = """
import signal, time

rung = []
signal.signal(signal.SIGALRM, lambda *_: rung.append(1))
until = time.process_time() + 0.1
while time.process_time() < until:
    pass
assert not rung, "nobody has set it"
signal.setitimer(signal.ITIMER_REAL, 0.1)
until = time.monotonic() + 5
while not rung and time.monotonic() < until:
    pass
assert rung
"""


@pytest.mark.parametrize("watcher", ["sandbox", "sandbox-runner"])
def test_a_module_of_task_types_may_use_the_alarm_when_it_is_loaded(
    instance: Instance, releases: Releases, watcher: str
) -> None:
    instance.started()
    releases.switch(releases.make("two").add("service/builtin/demo.py", ALARM_AT_IMPORT))
    assert instance.circusctl("reload", watcher) == "ok\n"


def test_outcomes_are_published(instance: Instance, releases: Releases) -> None:
    instance.started()
    with Events(instance) as events:
        assert instance.circusctl("reload", "sandbox") == "ok\n"
        broken = releases.make("broken").add("service/web/app.py", "raise ImportError('published')")
        releases.switch(broken)
        assert "published" in instance.circusctl("reload", "sandbox")
        [reloaded] = events.of("watcher.sandbox.reloaded")
        [refused] = events.of("watcher.sandbox.reload_refused")
    assert reloaded.keys() == {"release", "seconds", "started", "stopping"}
    assert refused["release"] == str(broken.path)
    assert 0 < refused["seconds"] < 10
    assert "ended before it was ready" in refused["reason"]
    assert "ImportError: published" in refused["traceback"]


def test_the_end_of_each_process_is_published_that_was_started(instance: Instance, releases: Releases) -> None:
    before = pids(instance.started().kinds()["runner"])

    def told(event: str) -> list[int]:
        return sorted(message["process_pid"] for message in events.of(f"watcher.sandbox-runner.{event}"))

    with Events(instance) as events:
        releases.switch(releases.make("broken").add("service/builtin/demo.py", "raise ImportError"))
        assert instance.ask("reload", "sandbox-runner").returncode == 3
        refused = eventually(lambda: len(found := told("reap")) == 2 and found)
        assert told("spawn") == refused
        instance.circusctl("decr", "sandbox-runner", "2")
        eventually(lambda: told("reap") == sorted([*refused, *before]))


def test_term_to_the_arbiter_ends_it_gracefully_and_another_is_started(instance: Instance) -> None:
    arbiter = min(instance.started().kinds()["web"])
    with load(instance):
        os.kill(arbiter.pid, signal.SIGTERM)
        eventually(lambda: not arbiter.alive)
        eventually(instance.is_whole)
