"""The look at a workspace's web process, which may send what it likes."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from service.workspaces.nginx import Addresses
from service.workspaces.places import Places
from service.workspaces.record import Workspace
from service.workspaces.steps import serving
from service.workspaces.work import Plan, Work
from tests.servers import BUSY

INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
LONG_SECONDS = 30.0

Served = Callable[[bytes, float], Work]


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A web process that sends this again and again, with so long a pause."""
    over = threading.Event()
    nobody: Any = None
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def send(words: bytes, pause_seconds: float) -> None:
            connection, _ = listener.accept()
            until = time.monotonic() + LONG_SECONDS
            with connection, suppress(OSError):
                while time.monotonic() < until and not over.wait(pause_seconds):
                    connection.sendall(words)

        def begin(words: bytes, pause_seconds: float) -> Work:
            threading.Thread(target=send, args=(words, pause_seconds), daemon=True).start()
            found = Workspace("w-jo-mddsfpmq", "jo@example.org", "jo", port=listener.getsockname()[1])
            site = Addresses("localhost", by_port=True)
            return Work(Plan(Places.under(tmp_path), site, mirror=nobody, hands=nobody), found, told=nobody)

        yield begin
        over.set()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (b"HTTP/1.1 404 Not Found\r\n", ""),
        (INTERIM + b"HTTP/1.1 200 OK\r\n", ""),
        (b"HTTP/1.0 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.0 502 Bad Gateway\r\n", "the web process answers 502"),
        (b"SSH-2.0-OpenSSH\r\n", "the web process does not answer: what it sends has no status"),
        (INTERIM, "the web process does not answer: what it sends has no status"),
    ],
)
def test_the_answer_is_the_first_that_is_no_interim_one(served: Served, words: bytes, problem: str) -> None:
    began = time.monotonic()
    assert serving.unanswered(served(words, 0.0)) == problem
    assert time.monotonic() - began < serving.ANSWER_SECONDS * BUSY / 2


@pytest.mark.parametrize("words", [b"H", INTERIM])
def test_who_goes_on_slowly_has_no_more_time_than_others(
    served: Served, monkeypatch: pytest.MonkeyPatch, words: bytes
) -> None:
    monkeypatch.setattr(serving, "ANSWER_SECONDS", 1.0)
    began = time.monotonic()
    assert serving.unanswered(served(words, 0.3)) == "the web process does not answer: timed out"
    assert 0.9 < time.monotonic() - began < 5 * BUSY
