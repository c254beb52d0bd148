"""What a watcher decides without circusd. What it does under it: tests/system."""

import asyncio
import time
from pathlib import Path
from unittest.mock import AsyncMock

import pytest

from service.supervise.watcher import GatedWatcher


@pytest.fixture
def watcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GatedWatcher:
    monkeypatch.setattr(GatedWatcher, "folder", tmp_path, raising=False)
    monkeypatch.setattr(GatedWatcher, "patience_seconds", 10.0, raising=False)
    return GatedWatcher("sleeper", "sleep 60", numprocesses=1)


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
