"""What a runner does beside its lanes, when Redis misbehaves."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.errors import StoreUnavailable
from service.runner.lane import Running
from service.runner.lockfile import Presence
from service.runner.stop import Stop
from service.runner.upkeep import Upkeep
from service.runner.window import Window
from service.store import GROUP, Store
from service.tasks.context import Context
from tests.runner.test_holdings import QUEUES, FaultyWire, claims
from tests.runner.test_lane import lane_of, recovery_of
from tests.servers import RedisServer


@pytest.fixture
def wire(server: RedisServer) -> FaultyWire:
    return FaultyWire(server.url)


@pytest.fixture
def upkeep(wire: FaultyWire, tmp_path: Path) -> Iterator[Upkeep]:
    store, stopping, presence = Store(wire), Stop(), Presence(tmp_path, 1)
    presence.consumer = "me"
    recovery = recovery_of(store, presence)
    yield Upkeep(
        lanes=[lane_of(store, presence, stopping, recovery)],
        store=store,
        presence=presence,
        queues=QUEUES,
        stopping=stopping,
        recovery=recovery,
        lease_seconds=15.0,
        retention_seconds=600.0,
    )
    presence.leave()


def test_progress_that_could_not_be_told_is_told_the_next_time(upkeep: Upkeep, wire: FaultyWire) -> None:
    [lane] = upkeep._lanes
    [held] = claims(upkeep._store, lane.holdings, 1)
    lane.running = running = Running(held, Context(held.document.task), Window())
    running.begun -= 1.0
    running.context.progress(0.5)

    wire.only, wire.failure = "EVALSHA", StoreUnavailable("as the test wishes")
    with pytest.raises(StoreUnavailable):
        upkeep._publish()
    wire.failure = None
    upkeep._publish()
    upkeep._publish()

    found = upkeep._store.read(held.entry.uid)
    assert found is not None
    assert (json.loads(bytes(found.task.progress))["fraction"], found.task.revision) == (0.5, 4)


def test_a_lease_is_fresh_only_if_every_entry_was_renewed(upkeep: Upkeep, server: RedisServer) -> None:
    [lane] = upkeep._lanes
    held, _ = claims(upkeep._store, lane.holdings, 2)
    upkeep._renew()
    assert time.monotonic() - lane.renewed < 5.0
    lane.renewed = 0.0
    with server.client() as client:
        client.xclaim(held.entry.stream, GROUP, "other", 0, [held.entry.id])
    upkeep._renew()
    assert lane.renewed == 0.0
