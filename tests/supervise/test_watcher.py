"""What a watcher decides without circusd. What it does under it: tests/system."""

import time
from pathlib import Path

import pytest

from service.supervise.watcher import GatedWatcher


@pytest.fixture
def watcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> GatedWatcher:
    monkeypatch.setattr(GatedWatcher, "folder", tmp_path, raising=False)
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
