"""What is left of a process that was stopped is killed, and nothing of anybody else's."""

import asyncio
import subprocess
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from service.supervise import stopping
from service.supervise.reload.trial import end_group
from tests.servers import eventually

Start = Callable[[str], "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """A script in a session of its own. What it reads is to end it."""
    started: list[subprocess.Popen[str]] = []

    def start(script: str) -> "subprocess.Popen[str]":
        words, pipe = ["sh", "-c", script], subprocess.PIPE
        started.append(subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True, start_new_session=True))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def stop(leader: "subprocess.Popen[str]", end: Callable[[], object]) -> None:
    async def _stop(_: bool) -> None:
        end()

    watcher = SimpleNamespace(priority=10, processes={leader.pid: leader}, _stop=_stop, end_leftovers=end_group)
    arbiter: Any = SimpleNamespace(iter_watchers=lambda reverse: [watcher])
    asyncio.run(stopping.stop_watchers(None)(arbiter))


def test_what_is_left_in_the_group_of_one_that_has_ended_is_killed(start: Start) -> None:
    leader = start("sleep 600 >/dev/null & echo $!; read told")
    assert leader.stdout is not None
    left = psutil.Process(int(leader.stdout.readline()))
    stop(leader, lambda: leader.communicate("end\n"))
    assert leader.returncode == 0
    eventually(lambda: not left.is_running() or left.status() == psutil.STATUS_ZOMBIE)


def test_who_has_got_the_number_of_one_that_has_ended_lives_on(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    stranger = start("read told")
    with monkeypatch.context() as earlier:
        earlier.setattr(stopping, "born", lambda _: "1")  # the number was another one's
        stop(stranger, earlier.undo)
    assert stranger.communicate("end\n") == ("", None) and stranger.returncode == 0
