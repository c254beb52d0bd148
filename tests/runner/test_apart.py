"""Attempts in processes of their own: real runners, real kills."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from service.tasks import moments, transitions
from service.tasks.document import Task
from tests.runner.crew import Crew
from tests.servers import eventually

SECONDS = 20.0


def start(crew: Crew, **settings: object) -> "subprocess.Popen[bytes]":
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


def have_ended(pids: list[int]) -> bool:
    return not any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in pids)


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
    assert crew.stop(runner) == 0 and have_ended([found["parent"]])


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
