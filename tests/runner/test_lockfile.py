"""Whether a runner lives, and what it was doing, as its neighbours see it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.errors import SandboxError
from service.runner import lockfile
from service.runner.lockfile import Presence, Remains
from tests.servers import eventually

LIVE = """
import sys, time
from pathlib import Path
from service.runner.lockfile import Presence
here = Presence(Path(sys.argv[1]), 2)
here.mark(0, b"first", 5.0)
here.mark(1, b"second")
here.clear(1)
print(here.consumer, flush=True)
time.sleep(60)
"""


@pytest.fixture
def neighbour(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = subprocess.Popen([sys.executable, "-c", LIVE, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process, process.stdout.readline().strip()
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.fixture
def me(tmp_path: Path) -> Iterator[Presence]:
    me = Presence(tmp_path, 1)
    yield me
    me.leave()


def test_a_living_neighbour_is_not_dead(me: Presence, neighbour: tuple[subprocess.Popen[str], str]) -> None:
    assert list(me.dead_neighbours()) == []
    assert list(me.held_up_neighbours()) == []


def test_nor_is_one_whose_upkeep_is_held_up(me: Presence, neighbour: tuple[subprocess.Popen[str], str]) -> None:
    assert [found.consumer for found in eventually(lambda: list(me.held_up_neighbours()), 5)] == [neighbour[1]]
    assert list(me.dead_neighbours()) == []


def test_a_reader_never_sees_half_a_sign_of_life(me: Presence, tmp_path: Path) -> None:
    """Another process beats as fast as it can: each look at it is at a whole time."""
    code = LIVE.replace("time.sleep(60)", "while True: here.beat(); here.mark(0, b'first', 5.0)")
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    consumer = process.stdout.readline().strip()
    try:
        for _ in range(50_000):
            found = me.remains(consumer)
            assert found is not None and found.since > 0 and found.deadlines == {"first": 5.0}
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_killed_one_is_dead_and_leaves_its_marks(me: Presence, neighbour: tuple[subprocess.Popen[str], str]) -> None:
    process, consumer = neighbour
    process.kill()
    [remains] = eventually(lambda: list(me.dead_neighbours()))
    assert (remains.consumer, remains.deadlines) == (consumer, {"first": 5.0})
    assert remains.blames("first") and not remains.blames("second")
    assert list(me.held_up_neighbours()) == []


def test_who_leaves_is_not_dead(me: Presence, tmp_path: Path) -> None:
    other = Presence(tmp_path, 1)
    other.leave()
    assert list(me.dead_neighbours()) == [] == list(me.held_up_neighbours())


def test_who_has_left_may_still_beat(tmp_path: Path) -> None:
    """The watchdog goes on until the process ends."""
    me = Presence(tmp_path, 1)
    me.leave()
    me.beat()


def test_who_ends_on_purpose_marks_nothing_more(me: Presence, tmp_path: Path) -> None:
    other = Presence(tmp_path, 2)
    other.mark(0, b"stuck")
    other.tell()
    other.mark(1, b"late")
    other._let_go()
    [remains] = me.dead_neighbours()
    assert remains.deadlines == {"stuck": lockfile.NEVER}


def test_a_fork_of_a_handler_does_not_keep_the_dead_alive(me: Presence, tmp_path: Path) -> None:
    code = LIVE.replace("time.sleep(60)", "import os; os.write(1, f'{os.fork()}\\n'.encode()); time.sleep(60)")
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    fork = max(int(process.stdout.readline()), int(process.stdout.readline()))
    try:
        process.kill()
        eventually(lambda: list(me.dead_neighbours()))
    finally:
        os.kill(fork, 9)
        process.wait()
        process.stdout.close()


def test_an_earlier_boot_proves_nothing(me: Presence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lockfile, "_boot", lambda: "before")
    earlier = Presence(tmp_path, 1)
    earlier._let_go()
    monkeypatch.undo()
    assert list(me.dead_neighbours()) == []
    assert [remains.consumer for remains in me.left_by_earlier_boots()] == [earlier.consumer]


def test_old_files_of_lost_hosts_are_removed_and_no_others(
    me: Presence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lockfile, "_here", lambda: "elsewhere:boot")
    lost, young, alive = (Presence(tmp_path, 1) for _ in range(3))
    monkeypatch.undo()
    crashed_here = Presence(tmp_path, 1)  # recovery wants to know which task to blame
    for gone in (lost, young, crashed_here):
        gone._let_go()
    begun = tmp_path / ".elsewhere:boot:1:2"
    begun.touch()
    for path in tmp_path.iterdir():
        if path.name != young.consumer:
            os.utime(path, (0, 0))

    me.clear_away(older_than_seconds=3600)

    assert {path.name for path in tmp_path.iterdir()} == {one.consumer for one in (me, young, alive, crashed_here)}
    alive.leave()


def test_only_the_alarm_makes_overdue_and_only_the_first_deadline() -> None:
    deadlines = {"late": 5.0, "later": 6.0, "free": lockfile.NEVER}
    killed = Remains("c", Path("p"), deadlines)
    alarmed = Remains("c", Path("p"), deadlines, stacks="Thread 0x1")
    assert [killed.overdue(token) for token in deadlines] == [False, False, False]
    assert [alarmed.overdue(token) for token in deadlines] == [True, False, False]


def test_its_deadline_must_have_been_one() -> None:
    cancelled = Remains("c", Path("p"), {"free": lockfile.NEVER}, stacks="Thread 0x1")
    assert not cancelled.overdue("free")


def test_a_lane_s_claims_are_known_by_their_order() -> None:
    names = [
        lockfile.token("host:boot:1:abc", lane, number, "f" * 64) for lane, number in ((0, 9), (0, 10), (0, 11), (1, 9))
    ]
    ended, executing, waiting, elsewhere = names
    remains = Remains("c", Path("p"), {executing: lockfile.NEVER})
    assert [remains.has_ended(name) for name in names] == [True, False, False, False]
    assert [remains.blames(name) for name in (ended, executing, waiting, elsewhere)] == [False, True, False, False]
    assert lockfile.is_of(executing, "f" * 64) and not lockfile.is_of(executing, "e" * 64)


def test_what_a_lane_has_ended_is_known_when_it_executes_nothing(me: Presence, tmp_path: Path) -> None:
    other = Presence(tmp_path, 2)
    names = [
        lockfile.token(other.consumer, lane, number, "f" * 64) for lane, number in ((0, 1), (0, 2), (0, 3), (1, 1))
    ]
    other.clear(1)
    other.mark(0, names[1].encode(), 5.0)
    for _ in range(2):
        other.clear(0)
        remains = me.remains(other.consumer)
        assert remains is not None and remains.deadlines == {}
        assert [remains.has_ended(name) for name in names] == [True, True, False, False]
    other.mark(0, names[2].encode())
    remains = me.remains(other.consumer)
    assert remains is not None and remains.blames(names[2])
    other.leave()


def test_one_runner_of_a_host_looks_for_all(tmp_path: Path) -> None:
    turns = tmp_path / "run"
    turns.mkdir()
    runners = [Presence(tmp_path / "runners", 1, turns) for _ in range(8)]
    assert [runner.is_turn("look", 60.0) for runner in runners] == [True] + [False] * 7
    assert runners[3].is_turn("watch", 60.0)
    runners[0].pass_turn("look")
    assert [runner.is_turn("look", 60.0) for runner in runners] == [True] + [False] * 7
    for runner in runners:
        runner.leave()


def test_without_a_common_folder_each_one_looks(me: Presence, tmp_path: Path) -> None:
    lost = Presence(tmp_path / "runners", 1, tmp_path / "nowhere")
    assert me.is_turn("look", 60.0) and lost.is_turn("look", 60.0) and lost.is_turn("look", 60.0)
    lost.leave()


def test_the_living_that_get_on_are_counted(
    me: Presence, neighbour: tuple[subprocess.Popen[str], str], tmp_path: Path
) -> None:
    third = Presence(tmp_path, 1)

    def count() -> int:
        me.beat()
        third.beat()
        return lockfile.living(tmp_path)

    eventually(lambda: count() == 2, 10)  # the neighbour does not beat
    third.leave()
    me.beat()
    assert lockfile.living(tmp_path) == 1
    assert lockfile.living(tmp_path / "nothing") == 0


def test_where_all_are_held_up_that_is_told(
    neighbour: tuple[subprocess.Popen[str], str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    process, _ = neighbour
    eventually(lambda: all_held_up(tmp_path), 10)
    assert "handlers hold up each of the 1" in all_held_up(tmp_path)
    told = {(record.levelname, record.getMessage()) for record in caplog.records if record.name == "sandbox.runner"}
    assert told == {("ERROR", all_held_up(tmp_path))}
    process.kill()
    eventually(lambda: not all_held_up(tmp_path))
    assert lockfile.living(tmp_path) == 0


def all_held_up(folder: Path) -> str:
    try:
        lockfile.living(folder)
    except SandboxError as error:
        return str(error)
    return ""
