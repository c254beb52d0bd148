"""A handler that holds the interpreter: what becomes of its task, of the others, and of its process."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from service.errors import StoreUnavailable
from service.runner import alarm, lockfile, neighbours
from service.runner.lockfile import Presence, Remains
from service.runner.neighbours import Neighbours, Pending
from service.store import Entry, Store
from service.tasks import moments, transitions
from service.tasks.document import Task
from tests.runner.crew import Crew
from tests.runner.test_lockfile import all_held_up
from tests.servers import BUSY, eventually

FOR_EVER = 600.0


def cancel(crew: Crew, uid: str) -> None:
    crew.store.change(uid, lambda task: transitions.cancelled(task, moments.stamp(time.time())))


def batch(crew: Crew, runs: Path, *, seconds: float) -> tuple[list[str], str, list[str]]:
    """A task that holds the interpreter, in the middle of a batch that one runner claims."""
    for uid in crew.create("echo", count=1000):  # so that everybody fetches in batches
        crew.finished(uid)
    note = {"path": str(runs)}
    new: list[list[Task]] = [
        crew.new("note", count=20, args=note),
        crew.new("hold", args={"seconds": seconds}),
        crew.new("note", count=20, args=note),
    ]
    for runner in crew.runners:
        runner.send_signal(signal.SIGSTOP)
    crew.store_all([task for tasks in new for task in tasks])
    for runner in crew.runners:
        runner.send_signal(signal.SIGCONT)
    before, [hold], after = ([task.uid for task in tasks] for tasks in new)
    return before, hold, after


def held(crew: Crew, uid: str) -> "subprocess.Popen[bytes]":
    """The runner that executes the task."""
    task = eventually(lambda: task if (task := crew.read(uid)).claim else None)
    pid = int(task.claim.consumer.split(":")[2])
    [runner] = [runner for runner in crew.runners if runner.pid == pid]
    return runner


def test_what_waits_behind_it_runs_elsewhere_and_nothing_runs_twice(crew: Crew, tmp_path: Path) -> None:
    crew.start(2)
    before, hold, after = batch(crew, tmp_path / "runs", seconds=6)
    for uid in after:
        task = crew.finished(uid)
        assert (task.status, task.attempt, task.crashes) == ("succeeded", 1, 0)
    assert crew.read(hold).status == "running"
    for uid in [*before, hold]:
        task = crew.finished(uid, 30)
        assert (task.status, task.attempt, task.crashes) == ("succeeded", 1, 0)
    runs = [line.split()[0] for line in (tmp_path / "runs").read_text().splitlines()]
    assert sorted(runs) == sorted([*before, *after])
    eventually(crew.nothing_left)


def test_its_own_lease_is_kept_and_what_has_ended_runs_again_after_a_lease(crew: Crew, tmp_path: Path) -> None:
    crew.start(2, lease=4)
    before, hold, _ = batch(crew, tmp_path / "runs", seconds=FOR_EVER)
    held(crew, hold)
    claim = crew.read(hold).claim
    for uid in before:
        task = crew.finished(uid, 30)
        assert (task.status, task.crashes) == ("succeeded", 0)
    assert crew.read(hold).claim == claim


def test_it_is_told_and_its_process_is_ended_when_it_is_cancelled(crew: Crew) -> None:
    notices = crew.home / "run" / "throttled"
    notices.parent.mkdir()
    crew.start(2)
    [hold] = crew.create("hold")
    runner = held(crew, hold)
    [notice] = eventually(lambda: list(notices.glob("*")))
    assert (notice.name, notice.read_text()) == (f"sandbox-runner-{runner.pid}", "held up by a handler")
    [line] = eventually(lambda: [line for line in crew.log() if line["level"] == "error"])
    assert (line["uid"], line["type"]) == (hold, "hold")
    cancel(crew, hold)
    assert runner.wait(10 * BUSY) == -alarm.SIGNAL
    eventually(lambda: not list(notices.glob("*")))
    eventually(lambda: any("in hold" in line["message"] for line in crew.log()))
    assert crew.read(hold).status == "cancelled"
    eventually(crew.nothing_left)


def test_where_all_runners_are_held_up_a_timeout_ends_it(crew: Crew) -> None:
    crew.start(2)
    holds = crew.create("hold", count=2, timeout=5, max_attempts=1)
    eventually(lambda: all_held_up(crew.home / "runners"))
    [waiting] = crew.create("echo")
    assert [runner.wait(30) for runner in crew.runners] == [-alarm.SIGNAL] * 2
    crew.start()
    assert crew.finished(waiting).status == "succeeded"
    assert {crew.finished(uid).status for uid in holds} == {"failed"}


def waiting(crew: Crew) -> int:
    """How many lanes wait at Redis."""
    [info] = crew.store._wire.call(0, ("INFO", "clients"))
    return int(re.findall(r"blocked_clients:(\d+)", info.decode())[0])


def test_the_other_lanes_of_its_process_are_not_to_blame(crew: Crew) -> None:
    [runner, _] = crew.start(2, threads=2)
    [innocent] = crew.create("sleep", args={"seconds": 60}, max_attempts=1)
    crew.running(innocent)
    runner = held(crew, innocent)
    other = next(one for one in crew.runners if one is not runner)
    other.send_signal(signal.SIGSTOP)
    eventually(lambda: waiting(crew) == 1)  # Redis would give an entry to who waits, though it is stopped
    [hold] = crew.create("hold")
    assert held(crew, hold) is runner
    other.send_signal(signal.SIGCONT)
    eventually(lambda: any("is held up" in line["message"] for line in crew.log()))
    cancel(crew, hold)
    runner.wait(10 * BUSY)
    claim = crew.read(innocent).claim
    task = eventually(lambda: task if (task := crew.read(innocent)).claim != claim else None)
    assert (task.status, task.crashes) == ("running", 0)


def test_a_second_installation_charges_what_it_takes_over(crew: Crew, tmp_path: Path) -> None:
    crew.start(home=tmp_path / "other-host", lease=2)
    [hold] = crew.create("hold")
    held(crew, hold)
    crew.start(lease=2)
    task = eventually(lambda: task if (task := crew.read(hold)).crashes else None)
    assert (task.crashes, task.attempt) == (1, 2)


LIVE = """
import sys, time
from pathlib import Path
from service.runner.lockfile import Presence
here = Presence(Path(sys.argv[1]), 2)
here.mark(0, b"a-0-1-5-0", time.monotonic() - 60)
here.mark(1, b"a-1-1-6-0")
print(here.consumer, flush=True)
time.sleep(600)
"""


@pytest.fixture
def late(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """It does not get on, and its task is long overdue."""
    process = subprocess.Popen([sys.executable, "-c", LIVE, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize("stopped", [False, True])
def test_a_process_whose_task_is_overdue_is_ended(
    late: "subprocess.Popen[str]", store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    monkeypatch.setattr(neighbours, "SIGNAL_SECONDS", 0.5)
    me = Presence(tmp_path, 1)
    watch = Neighbours(store=store, presence=me, queues=("default",), lease_seconds=15.0).watch
    if stopped:
        late.send_signal(signal.SIGSTOP)
    eventually(lambda: watch() or late.poll() is not None)
    assert late.returncode == -(signal.SIGKILL if stopped else alarm.SIGNAL)
    [remains] = me.dead_neighbours()
    assert list(remains.deadlines) == ["a-0-1-5-0"]
    me.leave()


BEGINS = """
import sys, time
from pathlib import Path
from service.runner.lockfile import Presence
here = Presence(Path(sys.argv[1]), 1)
here.beat()
print(here.consumer, flush=True)
sys.stdin.readline()
here.mark(0, b"a-0-1-5-0")
print("begun", flush=True)
sys.stdin.readline()
"""


def test_who_has_begun_nothing_is_told_only_when_a_handler_holds_it(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that starts slowly on a busy machine, for example."""
    me, notices = Presence(tmp_path / "runners", 1), tmp_path / "throttled"
    watch = Neighbours(store=store, presence=me, queues=(), lease_seconds=15.0, notices=notices).watch
    command = [sys.executable, "-c", BEGINS, str(tmp_path / "runners")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as slow:
        assert slow.stdin is not None and slow.stdout is not None
        slow.stdout.readline()
        eventually(lambda: list(me.held_up_neighbours()))
        watch()
        assert not notices.exists() and "held up" not in caplog.text
        slow.stdin.write("begin\n")
        slow.stdout.readline()
        watch()
        assert len(list(notices.iterdir())) == 1 and caplog.text.count("held up") == 1
    me.leave()


def test_it_is_looked_after_also_while_a_partition_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    held_up = Remains("host:boot:7:abc", tmp_path, {"a": time.monotonic() - 60})
    asked: list[int] = []

    def pending(self: Neighbours, neighbour: Remains, partition: int) -> list[Pending]:
        asked.append(partition)
        if partition == 0:
            raise StoreUnavailable("as the test wishes")
        return []

    ended: list[str] = []
    monkeypatch.setattr(Neighbours, "_pending", pending)
    presence: Any = SimpleNamespace(
        is_turn=lambda *_: True, held_up_neighbours=lambda: [held_up], end=lambda _, token, __: ended.append(token)
    )
    vouched: list[str] = []
    store: Any = SimpleNamespace(partitions=2, roster=SimpleNamespace(vouch=vouched.append))
    watching = Neighbours(store=store, presence=presence, queues=("default",), lease_seconds=15.0)
    with pytest.raises(StoreUnavailable):
        watching.watch()
    assert (asked, ended, vouched) == ([0, 1], ["a"], [held_up.consumer]) and "is held up" in caplog.text


def test_another_queue_s_entry_of_the_same_number_says_nothing_about_a_claim() -> None:
    uid, other = "a" * 64, "b" * 64
    claim = lockfile.token("host:boot:1:abc", 0, 1, uid)
    cancelled = Pending(Entry(0, "stream", "5-0", uid, None), None)
    stranger = Pending(Entry(1, "other", "5-0", other, None), None)
    assert neighbours._is_lost(claim, [stranger, cancelled])
    assert not neighbours._is_lost(claim, [stranger])


def test_a_notice_is_whole_as_soon_as_it_is_there_and_is_written_once(store: Store, tmp_path: Path) -> None:
    me = Presence(tmp_path / "runners", 1)
    notices = tmp_path / "throttled"
    held_up = Remains("host:boot:7:abc", tmp_path, {})
    for text, is_first in (("first", True), ("late", False)):
        watch = Neighbours(store=store, presence=me, queues=(), lease_seconds=15.0, notices=notices)
        assert watch._leave_notice(held_up, text) is is_first
    assert [notice.read_text() for notice in notices.iterdir()] == ["first"]
    assert [path for path in tmp_path.iterdir() if path.is_file()] == []
    me.leave()
