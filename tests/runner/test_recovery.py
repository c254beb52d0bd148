"""What is taken over, and when, by a clock that the test sets."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from service.errors import StoreUnavailable
from service.runner import lockfile, neighbours, recovery
from service.runner.lockfile import Presence, Remains, token
from service.runner.neighbours import Neighbours, Pending
from service.runner.recovery import Recovery
from service.runner.triage import Finding, Verdict
from service.store import GROUP, Change, Entry, Store, document
from service.store.queues import Queues
from service.tasks import transitions
from service.tasks.document import Claim
from service.tasks.registry import Registry
from tests.runner.test_holdings import new_task
from tests.servers import RedisServer

QUEUES = ("default",)
LEASE_SECONDS = 10.0


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.of_redis, self.passed = 1e9, 1e3
        monkeypatch.setattr(recovery, "time", SimpleNamespace(monotonic=lambda: self.passed))
        monkeypatch.setattr(Queues, "clock", lambda queues, partition: self.of_redis)

    def pass_by(self, seconds: float) -> None:
        self.of_redis += seconds
        self.passed += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def me(tmp_path: Path) -> Iterator[Presence]:
    me = Presence(tmp_path, 1)
    yield me
    me.leave()


@pytest.fixture
def neighbour(tmp_path: Path) -> Iterator[Presence]:
    neighbour = Presence(tmp_path, 1)
    yield neighbour
    neighbour.leave()


@pytest.fixture
def taker(store: Store, clock: Clock, me: Presence) -> Recovery:
    return recovery_of(store, me, Neighbours(store=store, presence=me, queues=QUEUES, lease_seconds=LEASE_SECONDS))


def recovery_of(store: Store, presence: Presence, neighbours: Neighbours) -> Recovery:
    return Recovery(
        store=store,
        registry=Registry.load(["service.builtin.demo"]),
        presence=presence,
        queues=QUEUES,
        lease_seconds=LEASE_SECONDS,
        held=lambda: [],
        neighbours=neighbours,
    )


def hold(store: Store, server: RedisServer, *, idle_seconds: float) -> str:
    """Somebody on another host holds an entry, and has not renewed it for so long by the clock of Redis."""
    store.create([new_task(store)])
    [entry] = store.queues.fetch(0, QUEUES, "other", 1)
    let_idle(server, entry, "other", idle_seconds)
    return entry.uid


def claimed(store: Store, consumer: str, number: int = 1) -> tuple[Entry, str]:
    """A runner claims a task. Returns the token, too."""
    store.create([new_task(store)])
    [entry] = store.queues.fetch(0, QUEUES, consumer, 1)
    claim = Claim(consumer, token(consumer, 0, number, entry.uid), entry.stream, entry.id)
    found = document(entry.uid, entry.text)
    assert found is not None
    after = transitions.claimed(found.task, claim, crashed=False)
    store.move([Change(found.text, found.task, after, entry)], consumer=consumer)
    return entry, claim.token


def let_idle(server: RedisServer, entry: Entry, consumer: str, seconds: float) -> None:
    with server.client() as client:
        client.xclaim(entry.stream, GROUP, consumer, 0, [entry.id], idle=int(seconds * 1000), justid=True)


def taken(taker: Recovery, clock: Clock) -> list[str]:
    clock.pass_by(recovery.LOOK_SECONDS)
    return [finding.entry.uid for finding in taker.findings()]


def test_a_look_that_a_frozen_partition_holds_up_is_not_begun_again_at_once(
    taker: Recovery, clock: Clock, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lane would do nothing else."""

    def take_any(*_: object, **__: object) -> list[Entry]:
        clock.pass_by(5.0)
        raise StoreUnavailable("it does not answer in time")

    monkeypatch.setattr(store.queues, "take_any", take_any)
    taker.lost_contact()
    with pytest.raises(StoreUnavailable):
        taken(taker, clock)
    clock.pass_by(4.0)
    assert taker.findings() == []
    clock.pass_by(1.0)
    with pytest.raises(StoreUnavailable):
        taker.findings()


def test_a_lease_that_has_run_out_counts_after_one_lease_of_contact(
    taker: Recovery, clock: Clock, store: Store, server: RedisServer
) -> None:
    uid = hold(store, server, idle_seconds=LEASE_SECONDS + 1)
    assert taken(taker, clock) == []
    clock.pass_by(LEASE_SECONDS)
    assert taken(taker, clock) == [uid]


@pytest.mark.parametrize("seconds", [3600.0, -3600.0])
def test_after_a_sleep_or_a_step_of_the_clock_of_redis_it_counts_one_lease_later(
    taker: Recovery, clock: Clock, store: Store, server: RedisServer, seconds: float
) -> None:
    clock.pass_by(LEASE_SECONDS)
    assert taken(taker, clock) == []
    clock.of_redis += seconds
    uid = hold(store, server, idle_seconds=3600)
    assert taken(taker, clock) == []
    clock.pass_by(LEASE_SECONDS)
    assert taken(taker, clock) == [uid]


class Waking(Neighbours):
    """A neighbour starts a task of its own between the look at it and the take."""

    def __init__(self, store: Store, me: Presence, neighbour: Presence, token: str) -> None:
        super().__init__(store=store, presence=me, queues=QUEUES, lease_seconds=LEASE_SECONDS)
        self._wake = lambda: neighbour.mark(0, token.encode())

    def vouch(self, neighbour: Remains, pending: list[Pending]) -> None:
        super().vouch(neighbour, pending)
        self._wake()


def test_what_a_neighbour_executes_after_all_is_given_back_to_it(
    clock: Clock, store: Store, server: RedisServer, me: Presence, neighbour: Presence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lockfile, "HELD_UP_SECONDS", 0.0)
    entry, token = claimed(store, neighbour.consumer)
    let_idle(server, entry, neighbour.consumer, 3600)
    taker = recovery_of(store, me, Waking(store, me, neighbour, token))
    assert taken(taker, clock) == []
    assert store.queues.consumers(0, QUEUES) == {neighbour.consumer: 1, me.consumer: 0}
    assert store.queues.renew(0, neighbour.consumer, [entry]) == {entry}


def test_what_a_neighbour_has_ended_and_not_settled_is_left_to_it(
    taker: Recovery,
    clock: Clock,
    store: Store,
    server: RedisServer,
    neighbour: Presence,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another lane of its process holds the interpreter before this one can settle."""
    monkeypatch.setattr(lockfile, "HELD_UP_SECONDS", 0.0)
    entry, token = claimed(store, neighbour.consumer)
    neighbour.mark(0, token.encode())
    neighbour.clear(0)
    let_idle(server, entry, neighbour.consumer, 3600)
    assert taken(taker, clock) == []
    assert store.queues.renew(0, neighbour.consumer, [entry]) == {entry}


def verdicts_of(findings: list[Finding]) -> list[tuple[str, Verdict]]:
    return [(finding.entry.uid, finding.verdict) for finding in findings]


@pytest.mark.parametrize("is_forgotten", [False, True])
def test_who_took_over_and_did_not_come_to_claim_takes_no_charge_away(
    taker: Recovery, clock: Clock, store: Store, me: Presence, tmp_path: Path, is_forgotten: bool
) -> None:
    """One of the dead runner's two tasks was executing."""
    dead, held_up = Presence(tmp_path, 1), Presence(tmp_path, 1)
    (deadly, token), (innocent, _) = claimed(store, dead.consumer), claimed(store, dead.consumer, number=2)
    dead.mark(0, token.encode())
    dead._let_go()
    taken_over = store.queues.take_any(0, QUEUES, held_up.consumer, dead=dead.consumer, idle_ms=0, count=9)
    assert [entry.id for entry in taken_over] == [deadly.id, innocent.id]
    if is_forgotten:
        assert taken(taker, clock) == []
        assert not (tmp_path / dead.consumer).exists()
    held_up._let_go()
    clock.pass_by(recovery.LOOK_SECONDS)
    expected = [(deadly.uid, Verdict.CLAIM_AFTER_CRASH), (innocent.uid, Verdict.CLAIM)]
    assert verdicts_of(taker.findings()) == expected
    again = store.read_again([entry._replace(owner=me.consumer) for entry in taken_over])
    assert verdicts_of(taker.judge_own(again)) == expected


def test_a_neighbour_that_was_just_watched_is_not_looked_at_again(
    clock: Clock, store: Store, me: Presence, neighbour: Presence, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lockfile, "HELD_UP_SECONDS", 0.0)
    monkeypatch.setattr(neighbours, "WATCH_SECONDS", 600.0)
    looks: list[str] = []
    counting = Counting(store, me, looks)
    taker = recovery_of(store, me, counting)
    counting.watch()
    assert taken(taker, clock) == [] and looks == [neighbour.consumer]


class Counting(Neighbours):
    def __init__(self, store: Store, me: Presence, looks: list[str]) -> None:
        super().__init__(store=store, presence=me, queues=QUEUES, lease_seconds=LEASE_SECONDS)
        self._looks = looks

    def vouch(self, neighbour: Remains, pending: list[Pending]) -> None:
        self._looks.append(neighbour.consumer)
        super().vouch(neighbour, pending)


def test_what_is_lost_elsewhere_is_forgotten_while_a_partition_is_away(
    taker: Recovery, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def retire(partition: int, *_: object, **__: object) -> None:
        asked.append(partition)
        if partition == 0:
            raise StoreUnavailable("as the test wishes")

    monkeypatch.setattr(Recovery, "_partitions", [0, 1])
    monkeypatch.setattr(store.queues, "retire_silent", retire)
    with pytest.raises(StoreUnavailable):
        taker.forget_lost_hosts()
    assert asked == [0, 1]


def test_a_dead_neighbour_that_cannot_be_looked_at_is_not_in_the_way_of_the_next(
    taker: Recovery, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: Any = ["what it held"]

    def of_one(neighbour: str) -> Any:
        if neighbour == "first":
            raise StoreUnavailable("as the test wishes")
        return found

    monkeypatch.setattr(taker._presence, "dead_neighbours", lambda: iter(["first", "second"]))
    monkeypatch.setattr(taker, "_of_one_dead", of_one)
    assert taker._of_the_dead() == found
