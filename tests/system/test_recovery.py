"""What dies by kill -9, and what holds nevertheless."""

import errno
import http.client
import json
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
import redis

from tests.servers import BUSY, DEBIAN, EMBEDDED, RedisServer, eventually, free_port
from tests.system.instance import ROOT, SANDBOX, Instance, Process, deaths, frozen

CIRCUSD = (*SANDBOX, "circusd", str(ROOT / "circus.ini"))
IN_ORDER = ["web", "runner", "redis"]
STARTING = """
import subprocess
from service import task

@task("start")
def start(context, command: list) -> int:
    return subprocess.Popen(command).pid
"""

TITLED = """
import ctypes, os

def setproctitle(title):
    if "SPT_NOENV" not in os.environ:
        with open("/proc/self/stat") as stat:
            begin, end = map(int, stat.read().rpartition(")")[2].split()[47:49])
        ctypes.memset(begin, 0, end - begin)

def getproctitle():
    return ""
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


class Knock(NamedTuple):
    answer: int | str
    seconds: float


@contextmanager
def knocking(instance: Instance) -> Iterator[list[Knock]]:
    """A client that asks again and again, each time on a connection of its own."""
    knocks: list[Knock] = []
    over = threading.Event()

    def knock() -> None:
        while not over.wait(0.02):
            began = time.monotonic()
            try:
                answer: int | str = instance.call("GET", "/health/live")[0]
            except (OSError, http.client.HTTPException) as error:
                answer = repr(error)
            knocks.append(Knock(answer, time.monotonic() - began))

    thread = threading.Thread(target=knock)
    thread.start()
    try:
        yield knocks
    finally:
        over.set()
        thread.join()


@contextmanager
def creating(instance: Instance) -> Iterator[tuple[list[str], list[int]]]:
    """A client that creates one task after another: the UIDs that were acknowledged, and all
    statuses; 0 for one that was not answered.
    """
    accepted: list[str] = []
    statuses: list[int] = []
    over = threading.Event()

    def create() -> None:
        while not over.wait(0.02):
            try:
                status, task = instance.call("POST", "/tasks", {"type": "echo"})
            except (OSError, http.client.HTTPException):
                status = 0
            statuses.append(status)
            if status == 201:
                accepted.append(task["uid"])

    thread = threading.Thread(target=create)
    thread.start()
    try:
        yield accepted, statuses
    finally:
        over.set()
        thread.join()


def notes(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


OF_ITS_OWN_GROUP = "import os, time; os.setpgrp(); time.sleep(600)"


def started_by_a_task(instance: Instance, *command: str) -> Process:
    uid = instance.create("start", command=command)
    eventually(lambda: instance.succeeded(uid))
    return Process(instance.task(uid)["result"], " ".join(command))


@pytest.fixture
def starting(instance: Instance) -> Instance:
    """Its tasks start programs that live on."""
    (instance.home.parent / "starting.py").write_text(STARTING)
    instance.environment |= {"SANDBOX_TASKS": "starting,service.builtin.demo", "SANDBOX_RUNNERS": "1"}
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
        eventually(instance.is_whole)
        assert (
            f"sandbox: the supervisor on {instance.home} was killed; ending first what it left: "
            f"sandbox (3), sandbox-runner (2), redis-sync (1), redis (1)\n"
        ) in instance.output
        assert "was killed; ending first what it left" in (instance.home / "log" / "circus.log").read_text()
        assert not any(process.alive for process in processes)
        assert [len(instance.kinds()[kind]) for kind in IN_ORDER] == [3, 2, 1]
        assert instance.task(uid)["status"] == "succeeded" and instance.task(uid)["attempt"] == 1
        eventually(lambda: len(instance.processes()) == 8)  # who tells of the start is gone
        assert instance.stop() == 0
        instance.is_gone()

    def test_gunicorn_is_found_though_it_gives_itself_a_title(self, instance: Instance) -> None:
        """As it does where setproctitle is installed, which writes over the environment unless it is told not to."""
        (instance.home.parent / "setproctitle.py").write_text(TITLED)
        web = instance.started().kinds()["web"]
        assert len(web) == 3
        eventually(lambda: "Ctrl-C" in instance.output)
        instance.kill()
        start_again(instance)
        assert not any(process.alive for process in web)

    def test_one_that_was_started_in_a_task_of_another_is_taken_over_too(
        self, make_instance: Callable[..., Instance]
    ) -> None:
        """It has inherited the session of that task's runner."""
        instance = make_instance("nested", SANDBOX_SESSION="1").started()
        left(instance)
        start_again(instance)
        assert instance.stop() == 0
        instance.is_gone()

    def test_connections_wait_for_the_next_start(self, instance: Instance) -> None:
        """From the moment at which circusd dies, not one is refused or reset."""
        instance.started()
        with knocking(instance) as knocks:
            left(instance)
            start_again(instance)
        assert len(knocks) > 10 and {knock.answer for knock in knocks} == {200}
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


class TestRunner:
    def test_its_task_runs_again_within_two_seconds_though_all_others_are_busy(
        self, instance: Instance, tmp_path: Path
    ) -> None:
        instance.environment["SANDBOX_TASKS"] = "tests.runner.handlers"
        instance.started()
        uids = [instance.create("note", path=str(tmp_path / "runs"), seconds=20) for _ in range(2)]
        lines = eventually(lambda: found if len(found := notes(tmp_path / "runs")) == 2 else None)
        uid, _, pid = lines[0].split()
        os.kill(int(pid), signal.SIGKILL)
        killed = time.monotonic()
        again = eventually(lambda: found[2] if len(found := notes(tmp_path / "runs")) == 3 else None)
        assert time.monotonic() - killed < 2 * BUSY
        assert again.split()[:2] == [uid, "2"] and uid in uids
        said = f"sandbox-runner (process {pid}) was ended by signal 9; another one is started"
        eventually(lambda: said in instance.output)

    def test_what_it_started_dies_with_it(self, starting: Instance) -> None:
        programs = [
            started_by_a_task(starting, "sleep", "600"),
            started_by_a_task(starting, "env", "-i", "sleep", "600"),
            started_by_a_task(starting, sys.executable, "-c", OF_ITS_OWN_GROUP),
        ]
        [runner] = starting.kinds()["runner"]
        os.kill(runner.pid, signal.SIGKILL)
        eventually(lambda: not any(program.alive for program in programs))


class Client:
    """A connection that is kept, and never opened again."""

    def __init__(self, instance: Instance) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", instance.port, timeout=10)
        assert self.is_answered()
        self._connection.auto_open = False
        self.port = self._connection.sock.getsockname()[1]

    def is_answered(self) -> bool:
        try:
            self._connection.request("GET", "/health/live")
            answer = self._connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            return False
        return answer.status == 200

    def close(self) -> None:
        self._connection.close()


def clients_of(worker: Process) -> set[int]:
    connections = psutil.Process(worker.pid).net_connections("tcp")
    return {connection.raddr.port for connection in connections if connection.raddr}


class TestWeb:
    def test_a_worker_is_replaced_and_the_other_goes_on(self, instance: Instance) -> None:
        instance.started()
        eventually(instance.is_whole)
        arbiter, killed, other = sorted(instance.kinds()["web"])
        clients: list[Client] = []
        eventually(lambda: clients.append(Client(instance)) or (clients_of(killed) and clients_of(other)))
        ports = clients_of(other)
        os.kill(killed.pid, signal.SIGKILL)
        for client in clients:
            assert client.is_answered() == (client.port in ports)
            client.close()
        eventually(instance.is_whole)
        assert arbiter.alive and other.alive

    def test_while_the_arbiter_is_replaced_connections_wait(self, instance: Instance) -> None:
        kinds = instance.started().kinds()
        body = json.dumps({"type": "sleep", "args": {"seconds": 1.5}})
        under_way = http.client.HTTPConnection("127.0.0.1", instance.port, timeout=10)
        under_way.request("POST", "/tasks", body, {"Content-Type": "application/json", "Prefer": "wait=5"})
        with knocking(instance) as knocks:
            eventually(lambda: len(knocks) > 3)
            os.kill(min(kinds["web"]).pid, signal.SIGKILL)
            eventually(
                lambda: len(instance.kinds()["web"]) >= 3 and not set(instance.kinds()["web"]) & {min(kinds["web"])}
            )
            eventually(lambda: not any(process.alive for process in kinds["web"]))
            count = len(knocks)
            eventually(lambda: len(knocks) > count + 3)
        assert {knock.answer for knock in knocks} == {200}
        assert max(knock.seconds for knock in knocks) < 2 * BUSY
        assert under_way.getresponse().status == 201
        under_way.close()


class TestRedis:
    def test_after_the_embedded_one_was_killed_all_goes_on_and_nothing_is_lost(self, instance: Instance) -> None:
        instance.started()
        with creating(instance) as (accepted, statuses):
            for _ in range(2):
                [redis] = instance.kinds()["redis"]
                before = len(accepted)
                eventually(lambda before=before: len(accepted) > before + 10)
                os.kill(redis.pid, signal.SIGKILL)
                killed, before = time.monotonic(), len(accepted)
                eventually(lambda redis=redis: instance.kinds()["redis"] not in ([], [redis]))
                eventually(lambda before=before: len(accepted) > before + 10)
                assert time.monotonic() - killed < 5 * BUSY
        assert set(statuses) <= {201, 503}
        for uid in accepted:
            eventually(lambda uid=uid: instance.succeeded(uid), 20)

    @pytest.mark.parametrize("kind", [EMBEDDED, DEBIAN])
    def test_one_beside_it_may_be_killed_and_started_again(
        self, make_instance: Callable[..., Instance], folder: Path, kind: str
    ) -> None:
        (folder / "redis").mkdir()
        server = RedisServer(folder / "redis", kind).start()
        try:
            instance = make_instance(REDIS_URL=server.url).started()
            processes = instance.processes()
            with creating(instance) as (accepted, statuses):
                eventually(lambda: len(accepted) > 10)
                server.kill()
                eventually(lambda: statuses[-1] == 503)
                server.start()
                before = len(accepted)
                eventually(lambda: len(accepted) > before + 10)
            assert set(statuses) == {201, 503}
            for uid in accepted:
                eventually(lambda uid=uid: instance.succeeded(uid), 20)
            assert set(instance.processes()) <= set(processes), "nobody had to be replaced"
            assert instance.stop() == 0
        finally:
            server.stop()


class TestHost:
    LEASE_SECONDS = 3

    def test_what_a_silent_host_held_runs_elsewhere(
        self, make_instance: Callable[..., Instance], folder: Path, tmp_path: Path
    ) -> None:
        """Two state folders are two hosts: neither can tell that the other's runners are dead."""
        (folder / "redis").mkdir()
        server = RedisServer(folder / "redis").start()
        settings = {"REDIS_URL": server.url, "SANDBOX_LEASE": str(self.LEASE_SECONDS)}
        settings["SANDBOX_TASKS"] = "tests.runner.handlers"
        try:
            silent = make_instance("a", **settings).started()
            uids = [silent.create("note", path=str(tmp_path / "runs"), seconds=1.5) for _ in range(2)]
            eventually(lambda: all(silent.task(uid)["started_at"] for uid in uids))
            with frozen(*silent.kinds()["runner"]):
                make_instance("b", **settings).started()
                ready = time.monotonic()
                eventually(lambda: len(notes(tmp_path / "runs")) == 4, 20)
                assert time.monotonic() - ready < self.LEASE_SECONDS + 5
                for uid in uids:
                    eventually(lambda uid=uid: silent.succeeded(uid))
                    assert silent.task(uid)["attempt"] == 2
        finally:
            server.stop()


class TestEverything:
    def test_after_a_kill_of_all_at_once_nothing_accepted_is_lost(self, instance: Instance) -> None:
        instance.started()
        uids = [instance.create("sleep", seconds=1) for _ in range(4)]
        status, batch = instance.call("POST", "/tasks/batch", [{"type": "echo"}] * 500)
        assert status == 201
        uids += [task["uid"] for task in batch["tasks"]]
        with creating(instance) as (accepted, _):
            eventually(lambda: len(accepted) > 20)
            for process in instance.processes():
                os.kill(process.pid, signal.SIGKILL)
        instance.wait()
        instance.started()
        for uid in uids + accepted:
            eventually(lambda uid=uid: instance.succeeded(uid), 20)
        assert instance.stop() == 0
        instance.is_gone()


def test_a_damaged_file_of_redis_is_named_on_the_terminal(instance: Instance) -> None:
    instance.started()
    instance.create("echo")
    assert instance.stop() == 0
    [file] = (instance.home / "redis" / "appendonlydir").glob("*.incr.aof")
    file.write_bytes(b"#garbage" + file.read_bytes())
    instance.start()
    eventually(lambda: f"{file} is damaged" in instance.output, 60)


def test_a_redis_that_is_killed_while_it_rewrites_its_files_leaves_none(instance: Instance) -> None:
    instance.started()
    folder = instance.home / "redis"
    with redis.Redis(unix_socket_path=str(instance.home / "run" / "redis.sock")) as client:
        client.mset({f"key {number}": "x" for number in range(100)})
        client.config_set("rdb-key-save-delay", 100_000)  # microseconds
        client.bgrewriteaof()
        eventually(lambda: list(folder.glob("temp-*")))
        [server] = instance.kinds()["redis"]
        os.kill(server.pid, signal.SIGKILL)
    eventually(lambda: not server.alive)
    eventually(instance.is_ready)
    assert not list(folder.glob("temp-*"))
