"""What a watcher decides without circusd. What it does under it: tests/system."""

import asyncio
import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import psutil
import pytest
from circus.watcher import Watcher
from tornado.ioloop import IOLoop

from service.supervise import hooks
from service.supervise.watcher import GatedWatcher
from tests.servers import eventually

STARTS_A_PROGRAM = """
import subprocess
print(subprocess.Popen(["sleep", "600"], process_group=0).pid, flush=True)
input()
"""


@pytest.fixture
def watcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[GatedWatcher]:
    monkeypatch.setattr(GatedWatcher, "folder", tmp_path, raising=False)
    monkeypatch.setattr(GatedWatcher, "patience_seconds", 10.0, raising=False)
    watcher = GatedWatcher("sleeper", "sleep 60", numprocesses=1)
    watcher.arbiter = SimpleNamespace(_stopping=False)
    watcher.loop = SimpleNamespace(spawn_callback=lambda *_: None)
    yield watcher
    for process in watcher.processes.values():
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(9)
        process.wait()


def test_a_process_grows_older_though_the_clock_is_put_back(
    watcher: GatedWatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = watcher._process("sleeper", 1, "sleep 60", pipe_stdout=False, pipe_stderr=False)
    try:
        monkeypatch.setattr(time, "time", lambda: 0.0)
        assert 0 <= process.age() < 30
    finally:
        process.send_signal(9)
        process.wait()


def test_more_processes_may_die_early_more_often(watcher: GatedWatcher) -> None:
    def deaths_without_a_pause() -> int:
        watcher._throttle.grew_old()
        while not watcher._throttle.pause:
            watcher._note_death(0.0)
        return watcher._throttle.crashes - 1

    assert deaths_without_a_pause() == 4
    watcher.numprocesses = 3
    assert deaths_without_a_pause() == 8


def test_between_the_starts_of_a_trial_others_have_their_turn(
    watcher: GatedWatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    turns: list[str] = []
    monkeypatch.setattr(watcher, "_start_on_trial", lambda _: turns.append("start"))

    async def others() -> None:
        while True:
            turns.append("others")
            await asyncio.sleep(0)

    async def judge() -> None:
        asking = asyncio.create_task(others())
        await watcher._judge(AsyncMock(problem=None, verdict=AsyncMock(return_value=None)), 3)
        asking.cancel()

    asyncio.run(judge())
    assert turns.count("start") == 3
    assert "start start" not in " ".join(turns)


def test_what_could_not_be_started_is_tried_again(watcher: GatedWatcher) -> None:
    watcher.cmd = "/not/there"
    asyncio.run(watcher._start())
    assert watcher.is_active() and not watcher.processes
    watcher.cmd = "sleep 60"
    asyncio.run(watcher.manage_processes())
    assert len(watcher.processes) == 1


def test_a_clock_that_is_put_back_during_a_start_holds_nothing_up(
    watcher: GatedWatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter(range(1_000_000, 0, -1000))
    with monkeypatch.context() as moving:
        moving.setattr(time, "time", lambda: float(next(times)))
        moving.setattr(IOLoop, "time", lambda _: time.monotonic())  # as in circusd
        asyncio.run(asyncio.wait_for(watcher._start(), 30))
    assert len(watcher.processes) == 1


def test_one_that_cannot_be_stopped_in_order_is_killed_and_keeps_nobody_waiting(
    watcher: GatedWatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(_: object) -> None:
        raise psutil.AccessDenied

    asyncio.run(watcher._start())
    [process] = watcher.processes.values()
    monkeypatch.setattr(Watcher, "kill_processes", refuse)
    for _ in range(2):
        asyncio.run(asyncio.wait_for(watcher._stop(), 30))
    assert watcher.is_stopped()
    eventually(lambda: not process.is_alive())


def test_a_number_that_is_wished_for_during_a_reload_counts(
    watcher: GatedWatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    release: Any = "new"
    monkeypatch.setattr(watcher, "_judge", AsyncMock())
    monkeypatch.setattr(watcher, "_swapped", lambda _: {})
    asyncio.run(watcher._start())

    async def reload() -> None:
        async with watcher.on_trial(release, watcher.numprocesses):
            watcher.numprocesses = 3

    asyncio.run(reload())
    assert watcher.numprocesses == 3


@pytest.fixture
def leaving(watcher: GatedWatcher) -> Iterator[tuple[int, int]]:
    """A process of a runner's kind, and the program that it has started."""
    watcher.hooks["before_reap"] = hooks.before_reap
    words = [sys.executable, "-c", STARTS_A_PROGRAM]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True) as leader:
        assert leader.stdout is not None
        yield leader.pid, int(leader.stdout.readline())
        leader.kill()


def test_what_one_that_leaves_has_started_ends_with_it(watcher: GatedWatcher, leaving: tuple[int, int]) -> None:
    leader, started = leaving
    program = psutil.Process(started)

    async def leave() -> None:
        watcher.adopt([], [leader], None)
        await asyncio.gather(*watcher._leaving.values())

    asyncio.run(leave())
    eventually(lambda: not program.is_running() or program.status() == psutil.STATUS_ZOMBIE)


def test_where_none_is_wanted_one_that_leaves_is_followed_by_none(
    watcher: GatedWatcher, leaving: tuple[int, int]
) -> None:
    async def leave() -> None:
        watcher.numprocesses = watcher.wanted = 0
        watcher.adopt([], leaving[:1], None)
        await asyncio.gather(*watcher._leaving.values())

    asyncio.run(leave())
    assert watcher.numprocesses == 0
