"""A second kind of runners beside the first: each serves its own queues, and what either loses is found."""

import os
import signal
import time
from collections.abc import Callable

import pytest

from tests.servers import BUSY, eventually
from tests.system.instance import SANDBOX, Instance, Process

TASKS = """
import os, pathlib, signal
from service import task

@task("slow", queue="builds")
def slow(context, seconds: float = 60) -> int:
    import time
    time.sleep(seconds if context.attempt == 1 else 0)
    return os.getpid()

@task("deadly", queue="builds")
def deadly(context) -> None:
    os.kill(os.getpid(), signal.SIGKILL)

@task("who")
def who(context) -> int:
    return os.getpid()
"""


@pytest.fixture
def instance(make_instance: Callable[..., Instance]) -> Instance:
    made = make_instance(
        SANDBOX_TASKS="built",
        SANDBOX_RUNNERS="1",
        SANDBOX_BUILDERS="1",
        SANDBOX_BUILDER_QUEUES="builds",
        SANDBOX_BUILDER_THREADS="2",
    )
    (made.home.parent / "built.py").write_text(TASKS)
    return made.started()


def builders(instance: Instance) -> list[Process]:
    return [process for process in instance.kinds()["runner"] if "--builder" in process.command]


def plain(instance: Instance) -> list[Process]:
    return [process for process in instance.kinds()["runner"] if "--builder" not in process.command]


def result(instance: Instance, uid: str, seconds: float = 20) -> int:
    return int(eventually(lambda: instance.succeeded(uid) and instance.task(uid), seconds)["result"])


def test_each_kind_executes_what_waits_in_its_queues(instance: Instance) -> None:
    [builder], [runner] = builders(instance), plain(instance)
    assert result(instance, instance.create("slow", seconds=0)) == builder.pid
    assert result(instance, instance.create("who")) == runner.pid
    status, task = instance.call("POST", "/tasks", {"type": "who", "queue": "builds"})
    assert status == 201 and result(instance, task["uid"]) == builder.pid
    assert "sandbox-builder: active" in instance.circusctl("status")


def test_what_a_killed_builder_held_is_run_again_by_the_next_one_and_counted_as_its_crash(instance: Instance) -> None:
    """Not by the runner beside it, which must not clear away what the builder was at."""
    [builder] = builders(instance)
    uids = [instance.create("slow") for _ in range(2)]
    eventually(lambda: all(instance.task(uid)["started_at"] for uid in uids))
    os.kill(builder.pid, signal.SIGKILL)
    killed = time.monotonic()
    pids = {result(instance, uid) for uid in uids}
    assert time.monotonic() - killed < 2 * BUSY + 2
    [next_one] = eventually(lambda: builders(instance))
    assert pids == {next_one.pid} and next_one.pid != builder.pid
    assert [instance.task(uid)["crashes"] for uid in uids] == [1, 1]


def test_a_task_that_kills_builders_fails_after_three_of_them(instance: Instance) -> None:
    uid = instance.create("deadly")
    task = eventually(lambda: found if (found := instance.task(uid))["status"] == "failed" else None, 60)
    assert (task["crashes"], task["error"]["type"]) == (3, "Crashed")


def test_what_a_killed_runner_held_is_not_taken_by_a_builder(instance: Instance) -> None:
    [runner] = plain(instance)
    os.kill(runner.pid, signal.SIGKILL)
    uid = instance.create("who")
    assert result(instance, uid) not in {runner.pid, builders(instance)[0].pid}


def test_builders_are_reloaded_like_the_others(instance: Instance) -> None:
    [builder] = builders(instance)
    assert instance.circusctl("reload", "sandbox-builder") == "ok\n"
    eventually(lambda: [each.pid for each in builders(instance)] != [builder.pid] and len(builders(instance)) == 1, 20)
    assert result(instance, instance.create("slow", seconds=0)) == builders(instance)[0].pid


def test_a_restart_takes_builders_away_and_brings_them_back(instance: Instance) -> None:
    for count in ("0", "2"):
        done = instance.run(*SANDBOX, "restart", SANDBOX_BUILDERS=count)
        assert done.returncode == 0, done.stdout + done.stderr + (instance.home / "log" / "circus.log").read_text()
        eventually(lambda count=count: len(builders(instance)) == int(count), 30)  # type: ignore[misc]
    assert result(instance, instance.create("slow", seconds=0)) in {builder.pid for builder in builders(instance)}
