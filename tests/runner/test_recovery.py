"""What is taken over, and when, by a clock that the test sets."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import redis

from service.runner import recovery
from service.runner.lockfile import Presence
from service.runner.neighbours import Neighbours
from service.runner.recovery import Recovery
from service.store import GROUP, Store
from service.tasks.registry import Registry
from tests.runner.test_holdings import new_task
from tests.servers import RedisServer

QUEUES = ("default",)
LEASE_SECONDS = 10.0


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.wall, self.passed = 1e9, 1e3
        monkeypatch.setattr(
            recovery, "time", SimpleNamespace(time=lambda: self.wall, monotonic=lambda: self.passed, sleep=None)
        )

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.passed += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def taker(store: Store, clock: Clock, tmp_path: Path) -> Iterator[Recovery]:
    presence = Presence(tmp_path, 1)
    yield Recovery(
        store=store,
        registry=Registry(),
        presence=presence,
        queues=QUEUES,
        lease_seconds=LEASE_SECONDS,
        held=lambda: [],
        neighbours=Neighbours(store=store, presence=presence, queues=QUEUES, lease_seconds=LEASE_SECONDS),
    )
    presence.leave()


def hold(store: Store, server: RedisServer, *, idle_seconds: float) -> str:
    """Somebody on another host holds an entry, and has not renewed it for so long by the clock of Redis."""
    store.create([new_task(store)])
    [entry] = store.queues.fetch(0, QUEUES, "other", 1)
    with server.client() as client:
        xclaim(client, entry.stream, entry.id, idle_seconds)
    return entry.uid


def xclaim(client: redis.Redis, stream: str, entry: str, idle_seconds: float) -> None:
    client.xclaim(stream, GROUP, "other", 0, [entry], idle=int(idle_seconds * 1000), justid=True)


def taken(taker: Recovery, clock: Clock) -> list[str]:
    clock.pass_by(recovery.LOOK_SECONDS)
    return [finding.entry.uid for finding in taker.findings()]


def test_a_lease_that_has_run_out_counts_after_one_lease_of_contact(
    taker: Recovery, clock: Clock, store: Store, server: RedisServer
) -> None:
    uid = hold(store, server, idle_seconds=LEASE_SECONDS + 1)
    assert taken(taker, clock) == []
    clock.pass_by(LEASE_SECONDS)
    assert taken(taker, clock) == [uid]


@pytest.mark.parametrize("seconds", [3600.0, -3600.0])
def test_after_a_sleep_or_a_step_of_the_clock_it_counts_one_lease_later(
    taker: Recovery, clock: Clock, store: Store, server: RedisServer, seconds: float
) -> None:
    clock.pass_by(LEASE_SECONDS)
    assert taken(taker, clock) == []
    clock.wall += seconds
    uid = hold(store, server, idle_seconds=3600)
    assert taken(taker, clock) == []
    clock.pass_by(LEASE_SECONDS)
    assert taken(taker, clock) == [uid]
