"""What starts gives way, and is as good as the others afterwards."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from service.supervise import priority


@pytest.fixture
def leader() -> Iterator[int]:
    """A shell and its child, in a session of their own."""
    with subprocess.Popen(["sh", "-c", "sleep 60 & wait"], start_new_session=True) as process:
        yield process.pid
        os.killpg(process.pid, 9)


def weights(leader: int) -> set[str]:
    """The nice values of all of the session, and its own."""
    words = {str(os.getpriority(os.PRIO_PGRP, leader))}
    with suppress(FileNotFoundError):
        words.add(Path(f"/proc/{leader}/autogroup").read_text().split()[-1])
    return words


def own_nice() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0)


def test_a_session_is_lowered_and_restored(leader: int) -> None:
    priority._may_raise.cache_clear()
    before = weights(leader)
    assert priority.lower(leader)
    assert weights(leader) == {str(own_nice() + priority.LOW), str(priority.LOW)}
    assert priority.restore(leader)
    assert weights(leader) == before


def test_what_could_not_be_raised_again_is_not_lowered(leader: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(which: int, who: int, nice: int) -> None:
        if nice <= own_nice():
            raise PermissionError

    priority._may_raise.cache_clear()
    monkeypatch.setattr(os, "setpriority", refuse)
    priority.lower(leader)
    assert os.getpriority(os.PRIO_PGRP, leader) == own_nice()
    priority._may_raise.cache_clear()


def test_a_change_that_comes_too_soon_is_tried_again(leader: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def too_soon(*_: object) -> None:
        raise BlockingIOError

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", too_soon)
        assert priority.restore(leader) is False
    assert priority.restore(leader) is True


def test_a_process_that_has_ended_needs_nothing() -> None:
    with subprocess.Popen(["true"], start_new_session=True) as process:
        process.wait()
    assert priority.lower(process.pid) is False
    assert priority.restore(process.pid) is True
