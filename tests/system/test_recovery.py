"""What dies by kill -9, and what holds nevertheless."""

import errno
import http.client
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.servers import eventually, free_port
from tests.system.instance import ROOT, SANDBOX, Instance, Process, deaths, frozen

CIRCUSD = (str(Path(sys.executable).with_name("circusd")), str(ROOT / "circus.ini"))
IN_ORDER = ["web", "runner", "redis"]
STARTING = """
import subprocess
from service.registry import task

@task("start")
def start(context, command: list) -> int:
    return subprocess.Popen(command).pid
"""


def left(instance: Instance) -> list[Process]:
    """Kills circusd, and answers what lives on: not who tells of the start."""
    eventually(lambda: sum(process.command.endswith("service.cli run ") for process in instance.processes()) == 1)
    processes = [process for processes in instance.kinds().values() for process in processes]
    instance.kill()
    return processes


def start_again(instance: Instance) -> None:
    """Until it says that it serves: what is left of the earlier one answers as well, for a while."""
    instance.start()
    eventually(lambda: "Ctrl-C" in instance.output, 60)


@contextmanager
def knocking(instance: Instance, path: str = "/health/live") -> Iterator[list[int]]:
    """A client that asks again and again, each time on a connection of its own; its answers' statuses."""
    answers: list[int] = []
    over = threading.Event()

    def knock() -> None:
        while not over.wait(0.02):
            try:
                answers.append(instance.call("GET", path)[0])
            except (OSError, http.client.HTTPException) as error:
                answers.append(getattr(error, "errno", None) or -1)

    thread = threading.Thread(target=knock)
    thread.start()
    try:
        yield answers
    finally:
        over.set()
        thread.join()


def started_by_a_task(instance: Instance, *command: str) -> Process:
    uid = instance.create("start", command=command)
    eventually(lambda: instance.succeeded(uid))
    return Process(instance.task(uid)["result"], " ".join(command))


@pytest.fixture
def starting(instance: Instance) -> Instance:
    """Its tasks start programs that live on."""
    (instance.home.parent / "starting.py").write_text(STARTING)
    instance.environment |= {"SANDBOX_TASKS": "starting,service.tasks.demo", "SANDBOX_RUNNERS": "1"}
    return instance.started()


class TestCircusd:
    def test_its_processes_go_on_serving_though_nobody_reads_what_they_print(self, instance: Instance) -> None:
        """They warn on the terminal when Redis is away; the terminal is a pipe here, and closed."""
        reader, writer = os.pipe()
        instance.start(output=os.fdopen(writer, "wb"))
        eventually(instance.is_ready, 30)
        [redis] = instance.kinds()["redis"]
        processes = left(instance)
        os.close(reader)
        with frozen(redis):
            assert instance.call("POST", "/tasks", {"type": "echo"})[0] == 503
        uid = instance.create("echo")
        eventually(lambda: instance.succeeded(uid))
        assert all(process.alive for process in processes)

    @pytest.mark.parametrize("words", [(*SANDBOX, "run"), CIRCUSD])
    def test_the_next_start_takes_over_in_order_and_says_so(self, instance: Instance, words: tuple[str, ...]) -> None:
        kinds = instance.started().kinds()
        uid = instance.create("sleep", seconds=2)
        eventually(lambda: instance.task(uid)["status"] == "running")
        processes = left(instance)
        instance.start(*words, environment=instance.variables())
        assert deaths(kinds) == IN_ORDER
        eventually(instance.is_ready, 30)
        assert (
            f"sandbox: the supervisor on {instance.home} was killed; ending first what it left: "
            f"sandbox (3), sandbox-runner (2), redis (1)\n"
        ) in instance.output
        assert not any(process.alive for process in processes)
        assert [len(instance.kinds()[kind]) for kind in IN_ORDER] == [3, 2, 1]
        assert instance.task(uid)["status"] == "succeeded" and instance.task(uid)["attempt"] == 1
        assert instance.stop() == 0
        instance.is_gone()

    def test_connections_wait_for_the_next_start(self, instance: Instance) -> None:
        """From the moment at which circusd dies, not one is refused or reset."""
        instance.started()
        with knocking(instance) as answers:
            left(instance)
            start_again(instance)
        assert len(answers) > 10 and set(answers) == {200}
        assert instance.stop() == 0
        instance.started()

    def test_another_port_is_not_taken_from_what_is_left(self, instance: Instance) -> None:
        instance.started()
        left(instance)
        former, instance.port = instance.port, free_port()
        instance.environment["SANDBOX_PORT"] = str(instance.port)
        start_again(instance)
        assert instance.is_ready()
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", former)) == errno.ECONNREFUSED

    def test_what_a_dead_runner_started_is_found_by_its_session(self, starting: Instance) -> None:
        programs = [
            started_by_a_task(starting, "sleep", "600"),
            started_by_a_task(starting, "env", "-i", "sleep", "600"),
        ]
        [runner] = starting.kinds()["runner"]
        left(starting)
        os.kill(runner.pid, signal.SIGKILL)
        assert all(program.alive for program in programs)
        start_again(starting)
        assert not any(program.alive for program in programs)

    def test_what_does_not_end_in_its_time_is_killed(self, instance: Instance) -> None:
        instance.environment["SANDBOX_GRACE"] = "0"
        runners = instance.started().kinds()["runner"]
        left(instance)
        with frozen(*runners):
            began = time.monotonic()
            start_again(instance)
            assert time.monotonic() - began > 10
            assert not any(runner.alive for runner in runners)

    def test_who_has_left_or_only_knows_the_folder_is_left_alone(self, starting: Instance) -> None:
        daemon = started_by_a_task(starting, "setsid", "sleep", "600")
        shell = psutil.Popen(["sleep", "600"], env=starting.variables(), start_new_session=True)
        try:
            left(starting)
            start_again(starting)
            assert daemon.alive and shell.is_running()
            assert starting.stop() == 0
            assert daemon.alive
        finally:
            os.kill(daemon.pid, signal.SIGKILL)
            shell.kill()
            shell.wait()
