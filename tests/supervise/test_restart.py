"""Whoever waits for the outcome of a restart is told one. What circusd does: tests/system."""

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from service.supervise import restart
from service.supervise.reload import candidate
from service.supervise.start import handover, state
from service.supervise.start.handover import Handover, Program
from service.supervise.watcher import GatedWatcher

ARBITER = SimpleNamespace(
    _exclusive_running_command=None,
    _stopping=False,
    ctrl=SimpleNamespace(told_to_quit=False),
    sockets={},
    watchers=[],
    iter_watchers=list,
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setattr(GatedWatcher, "folder", tmp_path, raising=False)
    monkeypatch.setattr(handover, "_folder", tmp_path)
    monkeypatch.setattr(state, "_held", {})
    state.lock(tmp_path / "lock")
    yield tmp_path
    state.let_go()


def test_a_program_that_no_exec_takes_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    odd: Any = {"A": 1}
    program = Program(words=["/bin/true"], command=[], environment=odd, folder="/")
    monkeypatch.setattr(restart.Takeover, "program", program, raising=False)
    asyncio.run(restart.Takeover()._leave(ARBITER, folder, program))
    assert "/bin/true cannot be started: " in (handover.outcome(folder) or "")
    assert not restart.Takeover._is_under_way


def test_a_fault_in_the_new_circusd_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def replace(_: object) -> str:
        raise KeyError("a fault")

    monkeypatch.setattr(restart, "_replace", replace)
    given = Handover(pid=os.getpid(), lock=3, sockets=[], serving={}, leaving={})
    asyncio.run(restart._finish(ARBITER, given))
    assert handover.outcome(folder) == "it has failed: KeyError('a fault'). circus.log says where"


def test_one_that_cannot_go_back_is_told_with_both_reasons(folder: Path) -> None:
    given = Handover(
        pid=os.getpid(), lock=3, sockets=[], serving={}, leaving={}, before={"words": []}, refused="it was bad"
    )
    asyncio.run(restart._finish(ARBITER, given))
    told = handover.outcome(folder) or ""
    assert told.startswith("it was bad\ncircusd has the new settings all the same, because it has failed: TypeError")


def test_a_restart_is_taken_over_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    finished: list[Handover] = []
    given = Handover(pid=os.getpid(), lock=3, sockets=[], serving={}, leaving={})
    monkeypatch.setattr(handover, "received", given)
    monkeypatch.setattr(restart.orphans, "find", lambda *_, **__: [])
    arbiter = SimpleNamespace(
        **{**vars(ARBITER), "loop": SimpleNamespace(spawn_callback=lambda _, __, what: finished.append(what))}
    )
    for _ in range(2):  # the second is `circusctl restart`, days later
        restart.begin(arbiter)
    assert finished == [given]


def test_a_web_that_never_comes_up_is_waited_for_no_longer_than_a_trial(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restart, "LEAST_SECONDS", 0.0)
    monkeypatch.setattr(candidate, "REDIS_SECONDS", 0.0)
    for name, value in {"patience_seconds": 0.1, "goes_back": True, "has_given_up": False, "reason": ""}.items():
        monkeypatch.setattr(GatedWatcher, name, value, raising=False)
    told = asyncio.run(restart._never_came_up(ARBITER))
    assert told.startswith("no web worker has come up within 0.1 s") and GatedWatcher.has_given_up
