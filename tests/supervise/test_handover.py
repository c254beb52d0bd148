"""What a restart writes down for the program that circusd becomes."""

import os
import signal
from pathlib import Path

import pytest

from service.errors import RestartFailed, RestartRefused
from service.supervise.start import handover
from service.supervise.start.handover import Handover, Program
from tests.full_disk import no_room

PROGRAM_0 = '{"words": ["/bin/python"], "command": ["run"], "environment": {}, "folder": "/"}'
HANDOVER_0 = '{"pid": 1, "lock": 3, "sockets": [], "serving": {}, "leaving": {}, "before": {}, "refused": ""}'
PROGRAM = Program(words=["/bin/python"], command=["run"], environment={"A": "\udcff"}, folder="/")


@pytest.fixture(autouse=True)
def nothing_received(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "received", None)
    monkeypatch.setattr(handover, "_folder", None)


def given(pid: int) -> Handover:
    return Handover(pid=pid, lock=3, sockets=[4], serving={"sandbox": [5]}, leaving={})


def test_a_program_is_read_once_though_its_environment_is_no_text(tmp_path: Path) -> None:
    handover.write(tmp_path, PROGRAM)
    assert handover.read(tmp_path, Program) == PROGRAM
    assert list(tmp_path.iterdir()) == [], "it holds secrets"


def test_a_field_of_another_release_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "handover").write_text('{"pid": 1, "lock": 3, "sockets": [], "serving": {}, "leaving": {}, "new": 1}')
    assert handover.read(tmp_path, Handover).pid == 1


@pytest.mark.parametrize("is_ours", [True, False])
def test_only_the_process_that_it_was_written_by_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_ours: bool
) -> None:
    monkeypatch.setenv(handover.VARIABLE, str(tmp_path))
    handover.write(tmp_path, given(os.getpid() if is_ours else 1))
    assert handover.take() == (given(os.getpid()) if is_ours else None)
    assert handover.VARIABLE not in os.environ


def test_a_full_disk_is_told_with_the_file_and_nothing_is_left(tmp_path: Path) -> None:
    told = r"File too large: .*program'\. Nothing has changed\."
    with no_room(), pytest.raises(RestartRefused, match=told), handover.wish(tmp_path, PROGRAM):
        pytest.fail("there is none")
    assert list((tmp_path / "restart").iterdir()) == []


def test_what_could_not_be_handed_over_leaves_its_room_to_the_outcome(tmp_path: Path) -> None:
    unused = Handover(**given(os.getpid()).__dict__ | {"sockets": []})
    with no_room(), pytest.raises(OSError, match=r"too large: .*handover"):
        handover.become(PROGRAM, tmp_path, unused, unless=lambda: True)
    assert list(tmp_path.iterdir()) == []


def test_an_outcome_that_cannot_be_written_is_none_to_wait_for(tmp_path: Path) -> None:
    folder = tmp_path / "wish"
    folder.mkdir()
    assert handover.outcome(folder) is None
    with no_room():
        handover.tell("it was bad", folder)
    with pytest.raises(RestartFailed, match=r"circusd could not write down .* log/circus\.log"):
        handover.outcome(folder)


def test_who_cannot_go_back_to_its_folder_hears_signals_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def chdir(_: str) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "chdir", chdir)
    with open(os.devnull) as lock:
        unused = Handover(**given(os.getpid()).__dict__ | {"lock": lock.fileno(), "sockets": []})
        with pytest.raises(PermissionError):
            handover.become(PROGRAM, tmp_path, unused, unless=lambda: False)
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & set(handover.HELD)


def test_a_program_that_cannot_be_started_changes_nothing(tmp_path: Path) -> None:
    nowhere = Program(words=["/not/there"], command=[], environment={}, folder="/")
    here = os.getcwd()
    with open(os.devnull) as lock, pytest.raises(FileNotFoundError):
        handover.become(
            nowhere,
            tmp_path,
            Handover(**given(os.getpid()).__dict__ | {"lock": lock.fileno(), "sockets": []}),
            unless=lambda: False,
        )
    assert os.getcwd() == here


@pytest.mark.parametrize(("kind", "text"), [(Program, PROGRAM_0), (Handover, HANDOVER_0)])
def test_what_the_first_release_wrote_is_read(tmp_path: Path, kind: type[Program | Handover], text: str) -> None:
    """A field that is added later needs a default."""
    (tmp_path / kind.__name__.lower()).write_text(text)
    handover.read(tmp_path, kind)


@pytest.mark.parametrize("text", [None, "", "[1]", '{"pid": 1}'])
def test_what_cannot_be_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None) -> None:
    """To go on would be to run into the lock that this very process holds."""
    monkeypatch.setenv(handover.VARIABLE, str(tmp_path))
    if text is not None:
        (tmp_path / "handover").write_text(text)
    with pytest.raises(RestartFailed, match=r"SANDBOX_RESTART is .*; what the former circusd has left there"):
        handover.take()


def test_one_whose_folder_has_been_removed_can_become_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "release").mkdir()
    monkeypatch.chdir(tmp_path / "release")
    (tmp_path / "release").rmdir()
    nowhere = Program(words=["/not/there"], command=[], environment={}, folder=str(tmp_path))
    with open(os.devnull) as lock, pytest.raises(FileNotFoundError, match="/not/there"):
        handover.become(
            nowhere,
            tmp_path,
            Handover(**given(os.getpid()).__dict__ | {"lock": lock.fileno(), "sockets": []}),
            unless=lambda: False,
        )
    assert os.getcwd() == str(tmp_path)
