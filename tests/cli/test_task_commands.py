"""`sandbox task`, against a real service."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cli.conftest import TYPES, Command
from tests.cli.terminal import Terminal
from tests.servers import BUSY, eventually, free_port
from tests.system.instance import SANDBOX, Instance

UID_LENGTH = 64


def created(sandbox: Command, *words: str) -> str:
    done = sandbox("task", "create", *words)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    uid = done.stdout.rstrip("\n")
    assert len(uid) == UID_LENGTH
    return uid


def test_a_task_is_created_awaited_and_shown(sandbox: Command) -> None:
    uid = created(sandbox, "order", "item=5", "count=5", "express=true", 'tags=["a"]', "more:=[null]")
    waited = sandbox("task", "wait", uid)
    assert (waited.returncode, waited.stderr) == (0, "")
    assert json.loads(waited.stdout) == {
        "item": "5",
        "count": 5,
        "express": True,
        "tags": ["a"],
        "note": None,
        "size": "small",
        "more": [None],
    }
    shown = json.loads(sandbox("task", "get", uid, "--json").stdout)
    assert (shown["uid"], shown["status"]) == (uid, "succeeded")
    fields = dict(line.split("\t") for line in sandbox("task", "get", uid).stdout.splitlines())
    assert fields["status"] == "succeeded"
    assert json.loads(fields["args"])["item"] == "5"
    assert fields.keys() == shown.keys()


def test_create_waits_and_prints_nothing_but_the_result(sandbox: Command) -> None:
    done = sandbox("task", "create", "order", "--args", '{"item": "tea", "count": 2}', "count=3", "--wait")
    assert done.returncode == 0
    assert json.loads(done.stdout).items() >= {"item": "tea", "count": 3}.items()
    whole = sandbox("task", "create", "echo", "message=hello", "--wait", "--json")
    assert json.loads(whole.stdout)["result"] == "hello"


def test_arguments_come_from_standard_input(running: Instance) -> None:
    done = subprocess.run(
        (*SANDBOX, "task", "create", "echo", "--args", "-", "--wait"),
        input='{"message": "ü\\n"}',
        env=running.environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert json.loads(done.stdout) == "ü\n"


def test_the_options_of_a_task_reach_it(sandbox: Command) -> None:
    words = ("--queue", "side", "--priority", "low", "--delay", "1h30m", "--max-attempts", "7", "--task-timeout", "90")
    uid = created(sandbox, "echo", *words)
    task = json.loads(sandbox("task", "get", uid, "--json").stdout)
    assert (task["status"], task["queue"], task["priority"]) == ("scheduled", "side", "low")
    assert (task["max_attempts"], task["timeout"]) == (7, 90)
    assert sandbox("task", "create", "echo", "--priority", "highest").returncode == 2
    cancelled = sandbox("task", "cancel", uid)
    assert (cancelled.returncode, cancelled.stdout) == (0, f"{uid}\tcancelled\n")
    assert sandbox("task", "cancel", uid).returncode == 0  # it is so already
    again = sandbox("task", "retry", uid)
    assert (again.returncode, again.stdout) == (0, f"{uid}\tqueued again\n")
    assert sandbox("task", "wait", uid).returncode == 0


def test_a_task_that_fails_is_exit_code_1(sandbox: Command) -> None:
    done = sandbox("task", "create", "broken", "says=\x1b[31mred", "--wait")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("has failed: RuntimeError: \\x1b[31mred\n")
    uid = created(sandbox, "sleep", "seconds=60")
    sandbox("task", "cancel", uid)
    assert sandbox("task", "wait", uid).returncode == 1


def test_the_same_key_creates_one_task(sandbox: Command) -> None:
    assert created(sandbox, "echo", "--key", "once") == created(sandbox, "echo", "--key", "once")
    assert created(sandbox, "echo") != created(sandbox, "echo")


def test_of_a_unique_key_there_is_one_task_at_a_time(sandbox: Command) -> None:
    words = ("message=once", "--delay", "1h", "--unique-by", "message")
    first = created(sandbox, "echo", *words)
    assert created(sandbox, "echo", *words) == first
    refused = sandbox("task", "create", "echo", *words, "--on-conflict", "reject")
    assert (refused.returncode, f"{first} has the same unique key" in refused.stderr) == (6, True)
    document = json.loads(sandbox("task", "get", first, "--json").stdout)
    assert document["unique"] == {"key": '{"message":"once"}', "until": "finished", "on_conflict": "return"}
    sandbox("task", "cancel", first)
    assert created(sandbox, "echo", "--unique", "k", "--until", "started") != first
    assert sandbox("task", "create", "echo", "--unique", "k", "--unique-by", "message").returncode == 2
    assert sandbox("task", "create", "echo", "--until", "started").returncode == 2
    assert sandbox("task", "list", "--parent", first).stdout == ""


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("create", "nonsense"), 2, "nonsense"),
        (("create", "order"), 2, "item"),
        (("create", "order", "item=x", "count=many"), 2, "count is 'many'; allowed is: integer"),
        (("create", "echo", "--queue", "nowhere"), 2, "nowhere"),
        (("create", "echo", "--delay", "soon"), 2, "'soon' is no duration"),
        (("create",), 2, "Missing argument 'TYPE'"),
        (("get",), 2, "Missing argument 'UID...'"),
        (("get", "0" * 64), 5, "404"),
        (("get", "../types"), 5, "404"),
        (("wait", "0" * 64), 5, "404"),
        (("cancel", "0" * 64), 5, "404"),
        (("list", "--status", "lost"), 2, "lost"),
    ],
)
def test_what_cannot_be_done_has_its_exit_code(sandbox: Command, words: tuple[str, ...], code: int, said: str) -> None:
    done = sandbox("task", *words)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 2


def test_a_status_that_does_not_allow_it_is_exit_code_6(sandbox: Command) -> None:
    uid = created(sandbox, "echo")
    sandbox("task", "wait", uid)
    for word in ("cancel", "retry"):
        assert sandbox("task", word, uid).returncode == 6


def test_what_can_be_done_is_done_though_another_cannot(sandbox: Command) -> None:
    uid = created(sandbox, "echo", "--delay", "1h")
    done = sandbox("task", "cancel", "0" * 64, uid)
    assert (done.returncode, done.stdout) == (5, f"{uid}\tcancelled\n")


def test_a_wait_has_an_end(sandbox: Command) -> None:
    uid = created(sandbox, "echo", "--delay", "1h")
    done = sandbox("task", "wait", uid, "--timeout", "1")
    assert (done.returncode, done.stdout) == (124, "")
    assert done.stderr == f"sandbox: the task {uid} is scheduled after 1 s; it goes on.\n"
    sandbox("task", "cancel", uid)


def test_ctrl_c_ends_a_wait(running: Instance, sandbox: Command) -> None:
    uid = created(sandbox, "echo", "--delay", "1h")
    words = (*SANDBOX, "task", "create", "sleep", "seconds=60", "--wait")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    waiting = subprocess.Popen(words, env=running.environment, text=True, **pipes)
    assert waiting.stderr is not None
    said = waiting.stderr.readline()
    assert "is queued in the queue default" in said
    waiting.send_signal(signal.SIGINT)
    printed, complained = waiting.communicate(timeout=30)
    assert (waiting.returncode, printed, complained) == (130, "", "")
    sandbox("task", "cancel", uid, said.split()[3])


def test_the_list_is_filtered_and_goes_on_over_pages(sandbox: Command) -> None:
    for number in range(3):
        created(sandbox, "order", "item=x", "--queue", "side", "--delay", "1h", "--key", f"listed-{number}")
    words = ("task", "list", "--queue", "side", "--type", "order", "--status", "scheduled")
    lines = sandbox(*words).stdout.splitlines()
    assert [line.split("\t")[1:4] for line in lines] == [["order", "side", "scheduled"]] * 3
    found = [json.loads(line) for line in sandbox(*words, "--json", "--limit", "2").stdout.splitlines()]
    assert [task["uid"] for task in found] == [line.split("\t")[0] for line in lines[:2]]
    sandbox("task", "cancel", *(line.split("\t")[0] for line in lines))


def test_the_list_knows_all_filters_of_the_interface(sandbox: Command) -> None:
    uid = created(sandbox, "order", "item=needle", "--delay", "1h")
    words = ("--status", "scheduled", "--status", "queued", "--q", "args.item=needle")
    moments = ("--created-after", "2026-01-01T00:00:00Z", "--created-before", "2100-01-01T00:00:00Z")
    assert [line.split("\t")[0] for line in sandbox("task", "list", *words, *moments).stdout.splitlines()] == [uid]
    assert sandbox("task", "list", *words, "--created-before", "2026-01-01T00:00:00Z").stdout == ""
    sandbox("task", "cancel", uid)


def test_the_beginning_of_a_parents_uid_will_do(sandbox: Command) -> None:
    parent = created(sandbox, "family")
    [child] = sandbox("task", "wait", parent).stdout.splitlines()
    for uid in (parent, parent[:12]):
        lines = sandbox("task", "list", "--parent", uid).stdout.splitlines()
        assert [line.split("\t")[0] for line in lines] == [json.loads(child)]
        assert sandbox("task", "cancel", "--parent", uid, "--dry-run").stdout == "0\n"  # it has ended
    nobody = sandbox("task", "list", "--parent", f"{parent[:12]}0000")
    assert (nobody.returncode, "no task has a UID that begins with" in nobody.stderr) == (5, True)
    assert "a whole UID, which is 64 characters" in sandbox("task", "list", "--parent", "abc").stderr


def test_the_beginning_of_a_uid_will_do(sandbox: Command) -> None:
    uid = created(sandbox, "echo", "message=short")
    assert sandbox("task", "wait", uid[:12]).stdout == '"short"\n'
    assert f"uid\t{uid}\n" in sandbox("task", "get", uid[:8]).stdout
    assert sandbox("task", "log", uid[:12]).returncode == 0
    assert sandbox("task", "get", f"{uid[:12]}0000").returncode == 5
    later = created(sandbox, "echo", "--delay", "1h")
    assert sandbox("task", "cancel", later[:12]).stdout == f"{later}\tcancelled\n"
    assert sandbox("task", "retry", later[:12]).stdout == f"{later}\tqueued again\n"


def test_finished_tasks_are_removed(sandbox: Command) -> None:
    first, second = created(sandbox, "echo"), created(sandbox, "echo")
    waiting = created(sandbox, "echo", "--delay", "1h")
    assert sandbox("task", "wait", first, second).returncode == 0
    refused = sandbox("task", "purge", first[:12], waiting, second)
    assert (refused.returncode, refused.stdout) == (6, f"{first}\tremoved\n{second}\tremoved\n")
    assert "cancel it first; then it can be purged" in refused.stderr
    assert sandbox("task", "get", first).returncode == 5
    sandbox("task", "cancel", waiting)
    removed = sandbox("task", "purge", waiting, "--json")
    assert (removed.returncode, json.loads(removed.stdout)["uid"]) == (0, waiting)
    assert sandbox("task", "purge", waiting).returncode == 5


def test_all_that_the_options_show_is_cancelled_and_retried(sandbox: Command) -> None:
    uids = [created(sandbox, "talk", f"lines={number}", "--queue", "side", "--delay", "1h") for number in range(3)]
    only = ("--queue", "side", "--type", "talk", "--status", "scheduled")
    counted = sandbox("task", "cancel", *only, "--dry-run")
    assert (counted.returncode, counted.stdout) == (0, "3\n")
    assert json.loads(sandbox("task", "cancel", *only, "--dry-run", "--json").stdout) == {"matched": 3, "more": False}
    done = sandbox("task", "cancel", *only)
    assert (done.returncode, done.stdout) == (0, "3\tcancelled\n")
    cancelled = ("--queue", "side", "--type", "talk", "--status", "cancelled")
    again = sandbox("task", "retry", *cancelled, "--q", "args.lines=1", "--json")
    assert json.loads(again.stdout)["result"] == {"changed": 1, "left_out": {}}
    assert sandbox("task", "wait", uids[1]).returncode == 0
    assert sandbox("task", "retry", *cancelled).stdout == "2\tqueued again\n"


@pytest.mark.parametrize(
    "words", [("retry",), ("cancel", "0" * 64, "--status", "failed"), ("cancel", "0" * 64, "--dry-run")]
)
def test_many_or_some_must_be_named_but_not_both(sandbox: Command, words: tuple[str, ...]) -> None:
    done = sandbox("task", *words)
    assert (done.returncode, done.stdout) == (2, "")


def test_a_person_is_asked_before_many_are_changed(running: Instance, sandbox: Command) -> None:
    uid = created(sandbox, "order", "item=asked", "--delay", "1h")
    words = (*SANDBOX, "task", "cancel", "--q", "args.item=asked")
    for answer, code, status in (("n", 130, "scheduled"), ("y", 0, "cancelled")):
        with Terminal(*words, environment=running.environment) as terminal:
            assert terminal.shows("cancel 1 task? [y/N]")
            terminal.types(f"{answer}\n")
            assert terminal.ends() == code
        assert json.loads(sandbox("task", "get", uid, "--json").stdout)["status"] == status


def test_a_pipe_that_is_closed_is_no_error(running: Instance, sandbox: Command) -> None:
    for _ in range(2):
        created(sandbox, "echo")
    script = 'set -o pipefail; "$@" task list | head -n 1; echo "${PIPESTATUS[0]}"'
    for _ in range(3):
        done = running.run("bash", "-c", script, "bash", *SANDBOX)
        assert done.stderr == ""
        assert done.stdout.splitlines()[-1] in ("0", "141")
    done = running.run("bash", "-c", '"$@" task list | true; echo "${PIPESTATUS[0]}"', "bash", *SANDBOX)
    assert (done.stdout, done.stderr) == ("141\n", "")


def test_without_a_service_it_is_exit_code_7_at_once(folder: Path) -> None:
    away = Instance(folder)
    for words in (("get", "0" * 64), ("list",), ("create", "echo"), ("wait", "0" * 64)):
        done = away.run(*SANDBOX, "task", *words)
        assert (done.returncode, done.stdout) == (7, "")
        assert f"no service answers at http://127.0.0.1:{away.port}: Connection refused." in done.stderr
        assert "`sandbox run` starts one here" in done.stderr
    elsewhere = away.run(*SANDBOX, "task", "list", SANDBOX_URL=f"http://127.0.0.1:{free_port()}")
    assert elsewhere.stderr.splitlines()[1] == "SANDBOX_URL says where to ask."


def test_tokens_and_a_unix_socket(make_instance: Callable[..., Instance], folder: Path) -> None:
    tokens = {"SANDBOX_TOKENS": str(folder / "tokens")}
    instance = make_instance(SANDBOX_BIND=f"unix:{folder}/web.sock", SANDBOX_RUNNERS="1", **tokens)
    secrets = {
        scope: instance.run(*SANDBOX, "token", "add", scope, "--scope", scope).stdout.strip()
        for scope in ("read", "write")
    }
    instance.start()
    assert instance.run(*SANDBOX, "ready", "--wait", "60").returncode == 0

    def task(*words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        return instance.run(*SANDBOX, "task", *words, **variables)

    without = task("list")
    assert (without.returncode, without.stderr.splitlines()[0]) == (
        4,
        "sandbox: the service wants a token: set SANDBOX_TOKEN.",
    )
    assert task("list", SANDBOX_TOKEN="sbx_wrong").returncode == 4
    assert task("list", SANDBOX_TOKEN=secrets["read"]).returncode == 0
    assert task("create", "echo", SANDBOX_TOKEN=secrets["read"]).returncode == 4
    done = task("create", "echo", "message=x", "--wait", SANDBOX_TOKEN=secrets["write"])
    assert (done.returncode, done.stdout) == (0, '"x"\n')
    assert instance.stop() == 0


def test_a_log_is_followed_through_a_reload(make_instance: Callable[..., Instance], folder: Path) -> None:
    instance = make_instance(SANDBOX_RUNNERS="1", SANDBOX_TASKS="shop")
    (folder / "a" / "shop.py").write_text(TYPES)
    instance.started()
    words = (*SANDBOX, "task", "create", "talk", "lines=20", "seconds=0.5", "--follow")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    following = subprocess.Popen(words, env=instance.environment, text=True, **pipes)
    eventually(lambda: instance.call("GET", "/tasks?status=running")[1]["tasks"])
    assert instance.run(*SANDBOX, "reload", "web").returncode == 0
    printed, complained = following.communicate(timeout=60 * BUSY)
    assert (following.returncode, printed) == (0, "20\n"), complained
    assert said(complained) == list(range(20))
    assert instance.stop() == 0


def test_a_reload_in_the_middle_is_not_noticed(make_instance: Callable[..., Instance]) -> None:
    instance = make_instance(SANDBOX_RUNNERS="1").started()
    words = (*SANDBOX, "task", "create", "sleep", "seconds=3", "--wait")
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    waiting = subprocess.Popen(words, env=instance.environment, text=True, **pipes)
    eventually(lambda: instance.call("GET", "/tasks?status=running")[1]["tasks"])
    reloaded = instance.run(*SANDBOX, "reload", "web")
    assert reloaded.returncode == 0, reloaded.stderr
    assert instance.run(*SANDBOX, "task", "create", "echo").returncode == 0
    printed, _ = waiting.communicate(timeout=60 * BUSY)
    assert (waiting.returncode, printed) == (0, "3.0\n")
    assert len(instance.call("GET", "/tasks?type=sleep")[1]["tasks"]) == 1
    assert instance.stop() == 0


LINE = re.compile(r"\S+Z\tinfo\t1\tline ([0-9]+)\\nbelow\\x1b\[2J")


def said(text: str) -> list[int]:
    return [int(found[1]) for line in text.splitlines() if (found := LINE.fullmatch(line))]


def test_the_log_of_a_task_is_printed_and_followed(sandbox: Command) -> None:
    done = sandbox("task", "create", "talk", "--follow")
    assert (done.returncode, done.stdout) == (0, "3\n")
    assert said(done.stderr) == [0, 1, 2]
    uid = done.stderr.split()[3]
    assert said(sandbox("task", "log", uid).stdout) == said(sandbox("task", "log", "-f", uid).stdout) == [0, 1, 2]
    assert said(sandbox("task", "wait", "--follow", uid).stderr) == [0, 1, 2]
    lines = [json.loads(line) for line in sandbox("task", "log", uid, "--json").stdout.splitlines()]
    assert [line["text"] for line in lines] == [f"line {number}\nbelow\x1b[2J" for number in range(3)]
    assert sandbox("task", "log", "0" * 64).returncode == sandbox("task", "log", "-f", "0" * 64).returncode == 5


def test_whoever_follows_a_silent_task_is_told_when_the_time_is_over(running: Instance, sandbox: Command) -> None:
    uid = created(sandbox, "sleep", "seconds=60")
    eventually(lambda: running.call("GET", f"/tasks/{uid}")[1]["status"] == "running")
    began = time.monotonic()
    assert sandbox("task", "wait", "--follow", uid, "--timeout", "1").returncode == 124
    assert time.monotonic() - began < 14  # before the heartbeat
    sandbox("task", "cancel", uid)


def test_whoever_follows_at_a_terminal_sees_how_far_it_is(running: Instance) -> None:
    words = (*SANDBOX, "task", "create", "talk", "lines=2", "seconds=2", "--follow")
    with Terminal(*words, environment=running.environment) as terminal:
        assert terminal.shows("running 50% said 0")
        assert terminal.ends() == 0
    assert "line 1\r\n    below\\x1b[2J\r\n" in terminal.shown
    assert terminal.shown.endswith("2\r\n")


def test_a_person_sees_a_table_with_colours(running: Instance, sandbox: Command) -> None:
    created(sandbox, "broken", "says=\x1b[2J")
    with Terminal(*SANDBOX, "task", "list", environment=running.environment, columns=200) as terminal:
        assert terminal.ends() == 0
    assert "UID" in terminal.shown and "STATUS" in terminal.shown
    assert "\x1b[" in terminal.shown and "ago" in terminal.shown
    assert "\x1b[2J" not in terminal.shown
    assert max(map(len, terminal.shown.replace("\x1b[2m", "").replace("\x1b[0m", "").splitlines())) <= 210
    with Terminal(*SANDBOX, "task", "list", environment={**running.environment, "NO_COLOR": "1"}) as terminal:
        assert terminal.ends() == 0
    assert "\x1b[" not in terminal.shown


def test_ctrl_c_at_a_terminal_leaves_no_traceback(running: Instance, sandbox: Command) -> None:
    uid = created(sandbox, "echo", "--delay", "1h")
    with Terminal(*SANDBOX, "task", "wait", uid, environment=running.environment) as terminal:
        eventually(lambda: os.path.exists(f"/proc/{terminal.process.pid}/task"))
        asks = eventually(lambda: [line for line in _open(terminal.process.pid) if "socket:" in line])
        assert asks
        terminal.interrupt()
        assert terminal.ends() == 130
    assert "Traceback" not in terminal.shown
    sandbox("task", "cancel", uid)


def _open(pid: int) -> list[str]:
    folder = f"/proc/{pid}/fd"
    found = []
    for name in os.listdir(folder):
        with suppress(FileNotFoundError):  # it has just been closed
            found.append(os.readlink(f"{folder}/{name}"))
    return found
