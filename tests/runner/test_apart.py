"""Attempts in processes of their own: real runners, real kills."""

import json
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from service.errors import Interrupted
from service.runner.forked import _Runner, _Window
from service.runner.frames import CHUNK, LINE, NEWS, Frames, frame
from service.runner.shared import MOST_GROUPS, REASONS, Shared
from service.runner.window import MAIN_THREAD
from service.runner.zygote import SIGNAL
from service.tasks import moments, transitions
from service.tasks.context import Context
from service.tasks.document import Task
from service.tasks.limit_rule import LimitRule
from service.tasks.lines import LINE_LIMIT
from tests.runner.crew import Crew
from tests.servers import eventually

SECONDS = 20.0


def start(crew: Crew, **settings: Any) -> "subprocess.Popen[bytes]":
    [runner] = crew.start(tasks="tests.runner.apart_types,tests.runner.handlers", **settings)
    return runner


def result(task: Task) -> object:
    return json.loads(bytes(task.result))


def texts(crew: Crew, uid: str) -> list[str]:
    return [line.text for line in crew.store.logbook.read(uid).lines]


def numbers(path: Path) -> list[int]:
    """The processes that the handler has written down."""
    eventually(lambda: path.exists() and path.read_text().endswith("\n"), SECONDS)
    return [int(each) for each in path.read_text().splitlines()[0].split()]


def test_noise_among_what_it_says_is_a_failure_like_any_other(crew: Crew) -> None:
    start(crew)
    task = crew.finished(*crew.create("apart.garbles", max_attempts=1), SECONDS)
    assert (task.status, task.attempt, task.failures) == ("failed", 1, 1)
    assert task.error is not None and task.error.message == "what its process said cannot be read"


def have_ended(pids: list[int]) -> bool:
    return all(map(has_ended, pids))


def has_ended(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("threads", [1, 2])
def test_it_does_all_that_a_handler_may_in_another_process(crew: Crew, threads: int) -> None:
    runner = start(crew, threads=threads)
    [uid] = crew.create("apart", args={"key": "hunter222"})
    task = crew.finished(uid, SECONDS)
    assert task.status == "succeeded", task
    found = result(task)
    assert isinstance(found, dict)
    assert found["pid"] not in (runner.pid, found["parent"]) and found["parent"] != runner.pid
    assert (found["attempt"], found["said"]) == (1, "by a program\n")
    assert json.loads(bytes(task.progress))["fraction"] == 0.25
    said = ["by context.log [removed]", "by context.logger", "by their own logger", "from a thread", "by a program"]
    assert texts(crew, uid) == said
    lines = [line for line in crew.log() if line.get("logger") == "their.own"]
    assert [(line["uid"], line["process"]) for line in lines] == [(uid, f"runner/{found['pid']}")]
    assert crew.stop(runner) == 0
    assert have_ended([found["parent"]])


@pytest.mark.parametrize(
    ("how", "status", "name"),
    [("retry", "scheduled", "Retry"), ("reject", "failed", "Reject"), ("raise", "failed", "ValueError")],
)
def test_its_errors_mean_what_they_mean_anywhere(crew: Crew, how: str, status: str, name: str) -> None:
    start(crew)
    [uid] = crew.create("apart.fails", args={"how": how, "key": "hunter222"}, max_attempts=1 if how == "raise" else 2)
    task = eventually(lambda: task if (task := crew.read(uid)).failures else None, SECONDS)
    assert (task.status, task.error.type, task.failures, task.crashes) == (status, name, 1, 0)
    if how == "raise":
        assert task.error.message == "broken by [removed]"
        assert json.loads(bytes(task.progress))["message"] == "just before"
        [text] = texts(crew, uid)
        assert text.startswith("an attempt failed\nTraceback") and "hunter222" not in text


def test_it_creates_tasks_by_its_runner(crew: Crew) -> None:
    start(crew, threads=3)
    [uid] = crew.create("apart.parent")
    first, second, *refused = result(crew.finished(uid, SECONDS))  # type: ignore[misc]
    assert crew.finished(first, SECONDS).parent == crew.finished(second, SECONDS).parent == uid
    told = ["nobody.knows: type: there is no", "apart.one: args: Object contains unknown", "apart.one: the task "]
    assert [line.startswith(words) for line, words in zip(refused, told, strict=True)] == [True] * 3, refused


def test_it_pushes_back_the_key_of_a_limit(crew: Crew) -> None:
    crew.store.limits.put("by-key", LimitRule(concurrency=5))
    start(crew)
    [uid] = crew.create("apart.pushes")
    eventually(lambda: crew.read(uid).failures == 1, SECONDS)
    [next_uid] = crew.create("apart.pushes")
    eventually(lambda: crew.store.limits.waiting() == {"by-key": 1}, SECONDS)
    assert crew.read(next_uid).attempt == 0


@pytest.mark.parametrize("threads", [1, 3])
def test_a_cancel_is_raised_in_it_and_ends_all_that_it_has_started(crew: Crew, tmp_path: Path, threads: int) -> None:
    runner = start(crew, threads=threads)
    [uid] = crew.create("apart.note", args={"path": str(tmp_path / "note")})
    pids = numbers(tmp_path / "note")
    crew.running(uid)
    crew.store.change(uid, lambda task: transitions.cancelled(task, moments.stamp(time.time())))
    eventually(lambda: have_ended(pids), SECONDS)
    assert (tmp_path / "note").read_text().splitlines()[1:] == ["Cancelled True"]
    [after] = crew.create("apart")
    assert crew.finished(after, SECONDS).status == "succeeded"
    assert runner.poll() is None


@pytest.mark.parametrize("threads", [1, 2])
def test_one_that_holds_the_interpreter_is_killed_at_its_timeout_with_its_programs(
    crew: Crew, tmp_path: Path, threads: int
) -> None:
    runner = start(crew, threads=threads)
    [uid] = crew.create("apart.hold", args={"path": str(tmp_path / "note")}, timeout=1.0, max_attempts=1)
    pids = numbers(tmp_path / "note")
    task = crew.finished(uid, SECONDS)
    assert (task.status, task.error and task.error.type, task.failures, task.crashes) == ("failed", "TimedOut", 1, 0)
    eventually(lambda: have_ended(pids), SECONDS)
    assert runner.poll() is None
    assert texts(crew, uid)[0] == "the attempt did not end within 2 s: its process was killed"


def test_one_that_holds_the_interpreter_is_killed_when_it_is_cancelled_and_nobody_else_waits(
    crew: Crew, tmp_path: Path
) -> None:
    runners = [start(crew, threads=2), start(crew, threads=2)]  # the second one watches over the first
    holding = crew.create("apart.hold", count=2, args={"path": str(tmp_path / "note")})
    for uid in holding:
        crew.running(uid, SECONDS)
    naps = crew.create("nap", count=4, args={"seconds": 0.3})
    assert {crew.finished(uid, SECONDS).status for uid in naps} == {"succeeded"}
    for uid in holding:
        crew.store.change(uid, lambda task: transitions.cancelled(task, moments.stamp(time.time())))
    eventually(lambda: have_ended(numbers(tmp_path / "note")), SECONDS)
    assert [runner.poll() for runner in runners] == [None, None]
    assert not any("held up" in line["message"] for line in crew.log())


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("segfault", "was ended by SIGSEGV"),
        ("exit", "ended with exit code 3 before its handler did"),
        ("SIGKILL", "was ended by SIGKILL, as the kernel does when memory runs out"),
        ("36", "was ended by signal 36"),  # one of the real-time signals, for which Python has no names
    ],
)
def test_a_crash_is_a_failure_that_hurts_nobody_else(crew: Crew, how: str, told: str) -> None:
    runner = start(crew, threads=2)
    [beside] = crew.create("nap", args={"seconds": 1.0})
    [uid] = crew.create("apart.crash", args={"how": how}, max_attempts=1)
    task = crew.finished(uid, SECONDS)
    assert (task.status, task.failures, task.crashes, task.attempt) == ("failed", 1, 0, 1)
    assert task.error is not None
    assert (task.error.type, task.error.message) == ("Crashed", f"the attempt's process {told}")
    assert json.loads(bytes(task.progress))["message"] == "almost"
    first, last = texts(crew, uid)
    assert first == "last words" and last.startswith(
        "an attempt failed\nservice.runner.outcomes.Crashed: the attempt's"
    )
    if how == "segfault":
        assert "Fatal Python error: Segmentation fault" in last and 'apart_types.py", line' in last
    assert crew.read(beside).attempt == crew.finished(beside).attempt == 1
    assert runner.poll() is None


def test_after_a_crash_comes_the_next_attempt(crew: Crew) -> None:
    start(crew)
    [uid] = crew.create("apart.crash", args={"how": "exit"})
    task = eventually(lambda: task if (task := crew.read(uid)).failures else None, SECONDS)
    assert (task.status, task.failures, task.crashes, task.attempt) == ("scheduled", 1, 0, 1)
    _, [attempt] = crew.store.logbook.attempts(uid)
    assert (
        attempt.outcome == "crashed" and attempt.error and attempt.error["message"].endswith("before its handler did")
    )


def test_a_killed_runner_takes_all_of_it_along_and_another_runs_the_task_again(crew: Crew, tmp_path: Path) -> None:
    runner = start(crew, threads=2)
    [uid] = crew.create("apart.note", args={"path": str(tmp_path / "note"), "seconds": 600})
    pids = numbers(tmp_path / "note")
    runner.kill()
    eventually(lambda: have_ended(pids), SECONDS)
    assert len((tmp_path / "note").read_text().splitlines()) == 1  # it was killed, not interrupted
    start(crew)
    again = eventually(lambda: task if (task := crew.read(uid)).crashes else None, SECONDS)
    assert (again.crashes, again.failures, again.attempt) == (1, 0, 2)


def test_a_stop_hands_it_back_uncharged(crew: Crew, tmp_path: Path) -> None:
    runner = start(crew, threads=2, grace="0.5")
    [uid] = crew.create("apart.note", args={"path": str(tmp_path / "note"), "seconds": 600})
    [held] = crew.create("apart.hold", args={"path": str(tmp_path / "held")})
    pids = [*numbers(tmp_path / "note"), *numbers(tmp_path / "held")]
    assert crew.stop(runner, SECONDS) == 0
    eventually(lambda: have_ended(pids), SECONDS)
    assert (tmp_path / "note").read_text().splitlines()[1:] == ["Stopping True"]
    for task in map(crew.read, (uid, held)):
        assert (task.status, task.attempt, task.failures, task.crashes) == ("queued", 1, 0, 0)


def test_without_its_zygote_a_runner_ends_to_be_replaced_and_no_task_is_lost(crew: Crew, tmp_path: Path) -> None:
    runner = start(crew)
    [uid] = crew.create("apart.zygote", args={"path": str(tmp_path / "note")})
    task = eventually(lambda: task if (task := crew.read(uid)).failures else None, SECONDS)
    assert task.error and task.error.message == "the attempt's process has ended with the one that forked it"
    eventually(lambda: have_ended(numbers(tmp_path / "note")), SECONDS)
    [other] = crew.create("apart")
    assert runner.wait(SECONDS) == 0
    assert (crew.read(other).status, crew.read(other).attempt) == ("queued", 0)
    start(crew)
    assert {crew.finished(each, SECONDS).status for each in (uid, other)} == {"succeeded"}


def test_a_runner_without_free_descriptors_is_replaced(crew: Crew) -> None:
    runner = start(crew)
    [uid] = crew.create("no.descriptors")
    assert crew.finished(uid, SECONDS).status == "succeeded"
    [uid, behind] = crew.create("apart", count=2)
    assert runner.wait(SECONDS) == 0
    assert any("cannot be asked: Too many open files; this runner ends" in line["message"] for line in crew.log())
    assert (crew.read(uid).status, crew.read(uid).attempt) == ("queued", 0)
    start(crew)
    assert {crew.finished(each, SECONDS).status for each in (uid, behind)} == {"succeeded"}


def test_who_stops_its_zygote_holds_up_nobody_else(crew: Crew, tmp_path: Path) -> None:
    start(crew)
    [uid] = crew.create("apart.stops", args={"path": str(tmp_path / "note")}, timeout=1.0, max_attempts=1)
    [other] = crew.create("apart")
    assert crew.finished(other, SECONDS).status == "succeeded"
    task = crew.read(uid)
    assert task.error and task.error.type == "TimedOut"
    eventually(lambda: have_ended(numbers(tmp_path / "note")), SECONDS)


def test_what_it_leaves_in_its_group_ends_with_it(crew: Crew) -> None:
    start(crew)
    [uid] = crew.create("apart.leaves")
    forked = result(crew.finished(uid, SECONDS))
    assert isinstance(forked, int)
    eventually(lambda: have_ended([forked]), SECONDS)


def test_an_interruption_tears_nothing_of_what_it_says(crew: Crew) -> None:
    start(crew)
    uids = crew.create("apart.flood", count=5, timeout=1.0, max_attempts=1)
    for uid in uids:
        task = crew.finished(uid, SECONDS)
        assert task.error and task.error.type == "TimedOut"
        assert json.loads(bytes(task.progress))["message"] == "x" * 1000
        said = texts(crew, uid)
        assert set(said[:-1]) == {"y" * LINE_LIMIT + "…"} and said[-1].startswith("an attempt failed")


def test_a_runner_has_as_many_at_once_as_it_has_lanes(crew: Crew, tmp_path: Path) -> None:
    start(crew, threads=3)
    uids = [
        uid
        for number in range(3)
        for uid in crew.create("apart.note", args={"path": str(tmp_path / str(number)), "seconds": 600})
    ]
    for uid in uids:
        assert crew.running(uid, SECONDS).status == "running"
    assert len({numbers(tmp_path / str(number))[0] for number in range(3)}) == 3


def test_a_runner_without_such_types_has_no_zygote(crew: Crew) -> None:
    [runner] = crew.start()
    [uid] = crew.create("echo")
    assert crew.finished(uid).status == "succeeded"
    assert psutil.Process(runner.pid).children() == []


@pytest.mark.parametrize("reason", REASONS)
def test_an_interruption_before_the_handler_begins_is_not_lost(reason: type[Interrupted]) -> None:
    shared = Shared()
    window = _Window(shared)
    window.context = Context(Task(uid="0" * 64, type="t", queue="q", status="running", created_at=""))
    window.look()
    shared.interrupt(REASONS.index(reason) + 1)
    with pytest.raises(reason), window:
        raise AssertionError("it began")
    assert window.reason is reason and window.context.cancelled
    shared.close()


def test_what_is_no_frame_is_what_a_crash_has_left() -> None:
    frames = Frames()
    sent = frame(LINE, b"one") + frame(NEWS, b"") + b"Fatal Python error: Segmentation fault\n\nStack"
    found = [each for at in range(len(sent)) for each in frames.cut(sent[at : at + 1])]
    assert found == [(LINE, b"one"), (NEWS, b"")]
    assert frames.stacks == "Fatal Python error: Segmentation fault\n\nStack"
    half = Frames()
    assert list(half.cut(frame(LINE, b"one")[:-1])) == [] and half.stacks == ""


def test_programs_of_an_attempt_stand_in_shared_memory() -> None:
    shared = Shared()
    for group in range(1, 300):
        shared.add(group)  # more than there is room for
    shared.discard(7)
    shared.discard(299)
    assert list(shared) == [each for each in range(1, MOST_GROUPS + 1) if each != 7]
    shared.add(299)
    assert 299 in list(shared)
    shared.close()


def test_an_interruption_waits_until_a_frame_is_whole() -> None:
    ours, theirs = socket.socketpair()
    shared, heard, found = Shared(), Frames(), []
    window = _Window(shared)
    runner = _Runner(theirs, window)
    before = signal.signal(SIGNAL, runner.heed)
    large = b"x" * 10_000_000

    def listen() -> None:
        chunk = ours.recv(CHUNK)
        shared.interrupt(1)
        signal.pthread_kill(MAIN_THREAD, SIGNAL)
        while chunk:
            found.extend(heard.cut(chunk))
            chunk = b"" if found else ours.recv(CHUNK)

    thread = threading.Thread(target=listen)
    thread.start()
    with pytest.raises(REASONS[0]), window:
        runner.tell(LINE, large)
    theirs.close()
    thread.join(SECONDS)
    signal.signal(SIGNAL, before)
    ours.close()
    assert found == [(LINE, large)]


def test_it_is_refused_in_words_beside_greenlets_for_threads(crew: Crew) -> None:
    [runner] = crew.start(tasks="tests.runner.patched,tests.runner.apart_types")
    assert runner.wait(SECONDS) == 1
    assert "apart wants a process for each attempt, and a module of task types has called" in crew.log()[-1]["message"]
