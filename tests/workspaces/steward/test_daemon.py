"""The daemon itself: what it does when the kernel refuses it something, and whose requests it takes.

It is the real daemon with real requests; only what is behind the verbs stands in.
"""

import json
import os
import resource
import select
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.servers import BUSY, eventually
from tests.system.instance import ROOT

SCRIPT = """
import contextlib, os, subprocess, sys
from pathlib import Path
from types import SimpleNamespace
root, folder, failures, most = sys.argv[1:]
sys.path[:0] = [root, root + "/deploy"]
from service.workspaces.places import Places
from steward import daemon

fork, left = os.fork, int(failures)
def failing():
    global left
    left -= 1
    if left >= 0:
        raise BlockingIOError(11, "Resource temporarily unavailable")
    return fork()
daemon.os = SimpleNamespace(**{**vars(os), "fork": failing})
daemon.MOST_REQUESTS = int(most)

@contextlib.contextmanager
def serving(slug):
    with open(Path(folder, slug), "w") as file:
        yield file

daemon.Daemon(SimpleNamespace(
    config=SimpleNamespace(socket=folder + "/socket", service_uid=os.getuid()),
    about=lambda: {"isolation": "none"},
    home=Places.under(Path(folder)).home,
    uids=SimpleNamespace(of=lambda slug: os.getuid()),
    serving=serving,
    share=lambda slug: SimpleNamespace(used_up=lambda: ""),
    start=lambda *_: subprocess.Popen(["sleep", "600"], stdout=subprocess.PIPE),
)).run()
"""
ABOUT = {"done": {"isolation": "none"}}


class Running:
    def __init__(self, folder: Path, process: "subprocess.Popen[bytes]") -> None:
        self.folder = folder
        self.process = process

    @property
    def said(self) -> str:
        return (self.folder / "said").read_text()

    def connected(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self.folder / "socket"))
        connection.settimeout(60 * BUSY)
        return connection

    def about(self) -> object:
        return self.ask(verb="about")

    def ask(self, **request: str) -> object:
        """Nothing, if it hangs up."""
        try:
            with self.connected() as connection:
                connection.sendall(json.dumps(request).encode() + b"\n")
                return json.loads(connection.makefile().readline() or "null")
        except (BrokenPipeError, ConnectionResetError):
            return None

    def web(self, stack: ExitStack, slug: str) -> None:
        connection = stack.enter_context(self.connected())
        listener = stack.enter_context(socket.socket())
        request = json.dumps({"verb": "web", "slug": slug, "port": 0}).encode() + b"\n"
        socket.send_fds(connection, [request], [listener.fileno()])
        file = self.folder / slug
        eventually(lambda: file.exists() and file.read_text().endswith("}"), 60 * BUSY)


@contextmanager
def daemon(failures: int = 0, most: int = 256) -> Iterator[Running]:
    with tempfile.TemporaryDirectory(prefix="sandbox-daemon-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # others connect, too
        with open(folder / "said", "wb") as said:
            words = [sys.executable, "-c", SCRIPT, str(ROOT), name, str(failures), str(most)]
            running = Running(folder, subprocess.Popen(words, stderr=said))
        try:
            eventually(lambda: "listening" in running.said, 60 * BUSY)
            yield running
        finally:
            running.process.kill()
            running.process.wait()


def test_a_fork_that_fails_costs_one_request() -> None:
    with daemon(failures=2) as running:
        assert [running.about() for _ in range(3)] == [None, None, ABOUT]
        assert running.said.count("a request is not taken: [Errno 11]") == 2


def test_what_nobody_has_foreseen_is_refused_in_words_and_logged() -> None:
    with daemon() as running:
        answer = running.ask(verb="facts", slug="w-a-aaaaaaaa")  # which nothing stands in for
        assert answer == {"refused": "the steward has failed at this: its log says how"}
        eventually(lambda: "AttributeError" in running.said, 60 * BUSY)
        assert running.about() == ABOUT


def test_without_a_descriptor_left_it_waits_until_there_is_one() -> None:
    with daemon() as running:
        before = resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE, (3, before[1]))
        with running.connected() as connection:
            connection.sendall(b'{"verb": "about"}\n')
            eventually(lambda: "Too many open files" in running.said, 60 * BUSY)
            resource.prlimit(running.process.pid, resource.RLIMIT_NOFILE, before)
            assert json.loads(connection.makefile().readline()) == ABOUT


def test_web_processes_take_no_place_of_other_requests() -> None:
    with daemon(most=2) as running, ExitStack() as stack:
        for slug in ("w-a-aaaaaaaa", "w-b-bbbbbbbb", "w-c-cccccccc"):
            running.web(stack, slug)
        assert running.about() == ABOUT


def test_the_services_own_requests_are_bounded() -> None:
    with daemon(most=2) as running, ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(running.connected())
        assert running.about() is None


def test_who_says_a_byte_at_a_time_has_no_longer_than_others() -> None:
    with daemon() as running, running.connected() as connection:
        until = time.monotonic() + 20 * BUSY
        while not select.select([connection], [], [], 0.2)[0] and time.monotonic() < until:
            connection.sendall(b" ")
        assert json.loads(connection.makefile().readline()) == {"refused": "a request is said within 5 seconds"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes others")
def test_strangers_who_say_nothing_do_not_shut_the_service_out() -> None:
    with daemon(most=40) as running, ExitStack() as stack:
        held = []
        try:
            for uid in range(200_001, 200_021):
                os.seteuid(uid)
                held += [stack.enter_context(running.connected()) for _ in range(4)]
                os.seteuid(0)
        finally:
            os.seteuid(0)
        assert running.about() == ABOUT
        assert any(connection.recv(1) == b"" for connection in reversed(held))  # there is a bound for all together
