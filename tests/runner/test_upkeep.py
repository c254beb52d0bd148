"""What a runner does beside its lanes, when Redis misbehaves."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from service.errors import StoreUnavailable
from service.runner.due import Due
from service.runner.holdings import Held
from service.runner.lane import Lane, Running
from service.runner.leases import Leases
from service.runner.lockfile import Presence
from service.runner.progress import Progress
from service.runner.relief import Relief
from service.runner.stop import Stop
from service.runner.sweep import Sweep
from service.runner.task_logs import TaskLogs
from service.runner.upkeep import Upkeep
from service.runner.watchdog import Watchdog
from service.runner.window import Window
from service.store import GROUP, Entry, Store, Tally
from service.tasks.context import Context
from tests.runner.crew import Crew
from tests.runner.test_holdings import claims, statuses
from tests.runner.test_lane import lane_of, recovery_of
from tests.runner.wires import FaultyWire
from tests.servers import BUSY, RedisServer, eventually


@pytest.fixture
def presence(tmp_path: Path) -> Iterator[Presence]:
    presence = Presence(tmp_path, 1)
    presence.consumer = "me"
    yield presence
    presence.leave()


@pytest.fixture
def lane(store: Store, presence: Presence) -> Lane:
    return lane_of(store, presence, Stop(), recovery_of(store, presence))


def test_progress_that_could_not_be_stored_is_published_the_next_time(
    lane: Lane, store: Store, presence: Presence, wire: FaultyWire
) -> None:
    progress = Progress([lane], store=store, presence=presence)
    [held] = claims(store, lane.holdings, 1)
    lane.running = running = Running(held, Context(held.document.task), Window())
    running.begun -= 1.0
    running.context.progress(0.5)

    wire.only, wire.failure = "EVALSHA", StoreUnavailable("as the test wishes")
    with pytest.raises(StoreUnavailable):
        progress.publish()
    wire.failure = None
    progress.publish()
    progress.publish()

    found = store.read(held.entry.uid)
    assert found is not None
    assert (json.loads(bytes(found.task.progress))["fraction"], found.task.revision) == (0.5, 4)


def test_a_lease_is_fresh_only_if_every_entry_was_renewed(
    lane: Lane, store: Store, presence: Presence, server: RedisServer
) -> None:
    leases = Leases([lane], store=store, presence=presence, lease_seconds=15.0)
    held, _ = claims(store, lane.holdings, 2)
    leases.renew()
    assert time.monotonic() - lane.renewed < 5.0
    lane.renewed = 0.0
    with server.client() as client:
        client.xclaim(held.entry.stream, GROUP, "other", 0, [held.entry.id])
    leases.renew()
    assert lane.renewed == 0.0


def duty(done: list[str], name: str, *, fails: Exception | None = None, more: int = 0) -> Callable[[], bool]:
    """Notes each turn; says so many times that there is more to do."""

    def do() -> bool:
        done.append(name)
        if fails is not None:
            raise fails
        return done.count(name) <= more

    return do


@pytest.fixture
def lost() -> threading.Event:
    return threading.Event()


@pytest.fixture
def upkeep(lost: threading.Event) -> Iterator[Upkeep]:
    upkeep = Upkeep(lost.set)
    yield upkeep
    upkeep.end()


@pytest.mark.parametrize("error", [StoreUnavailable("as the test wishes"), ValueError("as the test wishes")])
def test_a_duty_that_fails_is_done_again_and_keeps_no_other_from_its_turn(
    upkeep: Upkeep, lost: threading.Event, error: Exception
) -> None:
    done: list[str] = []
    upkeep.every(0.0, duty(done, "fails", fails=error))
    upkeep.every(0.0, duty(done, "works"))
    upkeep.start()
    eventually(lambda: done[:4] == ["fails", "works"] * 2)
    assert lost.is_set() == isinstance(error, StoreUnavailable)


def test_a_duty_is_done_every_so_often_and_at_once_while_there_is_more_to_do(upkeep: Upkeep) -> None:
    done: list[str] = []
    upkeep.every(3600.0, duty(done, "rare"))
    upkeep.every(3600.0, duty(done, "long", more=2))
    upkeep.every(0.0, duty(done, "often"))
    upkeep.start()
    eventually(lambda: done.count("often") == 5)
    assert (done.count("rare"), done.count("long")) == (1, 3)


def test_a_partition_that_is_away_takes_no_lease_from_anybody(
    lane: Lane, store: Store, presence: Presence, monkeypatch: pytest.MonkeyPatch
) -> None:
    leases = Leases([lane], store=store, presence=presence, lease_seconds=15.0)
    [held] = claims(store, lane.holdings, 1)
    elsewhere = held.entry._replace(partition=1)
    monkeypatch.setattr(lane.holdings, "entries", lambda: [elsewhere, held.entry])
    lane.running = running = Running(Held(elsewhere, held.document), Context(held.document.task), Window())
    lane.renewed = 0.0
    asked: list[int] = []

    def renew(partition: int, consumer: str, entries: list[Entry]) -> set[Entry]:
        asked.append(partition)
        if partition == 1:
            raise StoreUnavailable("as the test wishes")
        return set(entries)

    monkeypatch.setattr(store.queues, "renew", renew)
    with pytest.raises(StoreUnavailable):
        leases.renew()
    assert asked == [1, 0]
    assert lane.renewed == 0.0
    assert not running.context.cancelled


def test_each_partition_is_swept_though_one_alone_takes_a_slice() -> None:
    swept: list[int] = []

    def sweep(group: list[int], **_: object) -> int:
        swept.append(group[0])
        time.sleep(0.06)
        return 1000

    groups = [[number] for number in range(5)]
    store: Any = SimpleNamespace(groups=groups, is_my_turn=lambda *_: True, index=SimpleNamespace(sweep=sweep))
    sweeping = Sweep(store, retention_seconds=60)
    for _ in range(5):
        assert sweeping.sweep()
    assert {*swept} == {0, 1, 2, 3, 4}


def test_what_is_due_elsewhere_does_not_wait_for_a_partition_that_is_away() -> None:
    asked: list[int] = []

    def promote(partition: int, count: int) -> int:
        asked.append(partition)
        if partition == 0:
            raise StoreUnavailable("as the test wishes")
        return 0

    store: Any = SimpleNamespace(groups=[[0], [1]], promote=promote)
    with pytest.raises(StoreUnavailable):
        Due(store).promote()
    assert asked == [0, 1]


def test_the_others_are_swept_while_a_partition_is_away() -> None:
    def is_my_turn(partition: int, *_: object) -> bool:
        if partition == 1:
            raise StoreUnavailable("as the test wishes")
        return True

    swept: list[int] = []
    index = SimpleNamespace(sweep=lambda group, **_: swept.append(group[0]) or 0)
    store: Any = SimpleNamespace(groups=[[0], [1], [2]], is_my_turn=is_my_turn, index=index)
    sweeping = Sweep(store, retention_seconds=60)
    with pytest.raises(StoreUnavailable):
        sweeping.sweep()
    assert not sweeping.sweep()
    assert swept == [0, 2]


def test_a_process_without_room_for_one_more_thread_ends_all_the_same(
    store: Store, presence: Presence, monkeypatch: pytest.MonkeyPatch
) -> None:
    alarm: Any = SimpleNamespace(disarm=lambda: None)
    tally: Any = None  # it comes to no last words
    dog = Watchdog(
        lanes=[], store=store, presence=presence, stopping=Stop(), alarm=alarm, tally=tally, grace_seconds=1.0
    )
    codes: list[int] = []

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr(os, "_exit", codes.append)
    with pytest.raises(RuntimeError):
        dog._end_process()
    assert codes == [0]


def test_the_last_words_are_heard_though_the_document_changed_meanwhile(
    lane: Lane, store: Store, presence: Presence
) -> None:
    [held] = claims(store, lane.holdings, 1)
    known = held.document
    lane.running = running = Running(held, Context(known.task), Window())
    running.begun -= 1.0
    running.context.progress(0.5)
    Progress([lane], store=store, presence=presence).publish()
    held.document = known  # as when the process ends before it has heard the answer
    alarm: Any = SimpleNamespace(disarm=lambda: None)
    dog = Watchdog(
        lanes=[lane],
        store=store,
        presence=presence,
        stopping=Stop(),
        alarm=alarm,
        tally=Tally(),
        grace_seconds=1.0,
    )
    dog._say_last_words()
    assert statuses(store, [held]) == ["queued"]


def test_unique_keys_are_looked_at_while_a_partition_is_away() -> None:
    def is_my_turn(partition: int, *_: object) -> bool:
        if partition == 0:
            raise StoreUnavailable("as the test wishes")
        return True

    looked: list[int] = []

    def look(partition: int, cursor: str, count: int) -> str:
        if partition == 1:
            raise StoreUnavailable("as the test wishes")
        looked.append(partition)
        return "0"

    keys = SimpleNamespace(look=look)
    store: Any = SimpleNamespace(groups=[[0], [1], [2]], partitions=3, is_my_turn=is_my_turn, unique_keys=keys)
    sweeping = Sweep(store, retention_seconds=60)
    for duty in (sweeping.begin_with_keys, sweeping.look_at_keys, sweeping.look_at_keys):
        with pytest.raises(StoreUnavailable):
            duty()
    assert looked == [2]


@pytest.mark.parametrize("duty", [lambda lanes: Relief(lanes, Stop()).relieve, lambda lanes: TaskLogs(lanes).write])
def test_a_lane_whose_partition_is_away_keeps_no_other_waiting(
    duty: Callable[[list[Lane]], Callable[[], None]],
) -> None:
    done: list[str] = []

    def lane(name: str) -> Any:
        def do(*_: object) -> None:
            done.append(name)
            if name == "first":
                raise StoreUnavailable("as the test wishes")

        holdings = SimpleNamespace(settle_ended=do, write_lines=do, ended=["an outcome"], waiting=[])
        held = SimpleNamespace(entry=SimpleNamespace(uid="0"))
        running = SimpleNamespace(held=held, is_long=lambda: True, context=SimpleNamespace(lines=["a line"]))
        return SimpleNamespace(running=running, holdings=holdings, is_behind=lambda: True)

    with pytest.raises(StoreUnavailable):
        duty([lane("first"), lane("second")])()
    assert done == ["first", "second"]


def test_leases_are_kept_though_another_duty_takes_long(crew: Crew, folder: Path) -> None:
    """By the clock of another host, which reaches all that this one does not."""
    crew.start(lease=4, tasks="service.builtin.demo,tests.runner.slow_upkeep")
    [uid] = crew.create("sleep", args={"seconds": 12})
    eventually(lambda: crew.read(uid).claim, 10 * BUSY)
    others = Crew(folder, crew._url, crew.store)
    others.start(lease=4)
    try:
        task = crew.finished(uid, 20 * BUSY)
    finally:
        others.kill_all()
    assert (task.status, task.attempt, task.crashes) == ("succeeded", 1, 0)
