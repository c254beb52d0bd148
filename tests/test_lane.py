"""What a lane does when its runner stops and Redis misbehaves."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.alarm import Alarm
from service.errors import StoreRefused
from service.lane import Lane
from service.presence import Presence
from service.recovery import Recovery
from service.registry import Registry
from service.report import Report
from service.stop import Stop
from service.store import Store
from tests.servers import RedisServer
from tests.test_holdings import QUEUES, FaultyWire, Silence, claims, statuses, succeed


@pytest.fixture
def wire(server: RedisServer) -> FaultyWire:
    return FaultyWire(server.url)


@pytest.fixture
def stopping() -> Stop:
    return Stop()


@pytest.fixture
def store(wire: FaultyWire) -> Store:
    return Store(wire)


@pytest.fixture
def lane(store: Store, stopping: Stop, tmp_path: Path) -> Iterator[Lane]:
    presence = Presence(tmp_path, 1)
    registry = Registry()
    recovery = Recovery(
        store=store, registry=registry, presence=presence, queues=QUEUES, lease_seconds=15.0, held=lambda: []
    )
    yield Lane(
        0,
        store=store,
        registry=registry,
        presence=presence,
        report=Report(Silence()),
        queues=QUEUES,
        stopping=stopping,
        alarm=Alarm(),
        lease_seconds=15.0,
        grace_seconds=15.0,
        recovery=recovery,
    )
    presence.leave()


def test_a_refusal_at_the_very_end_ends_the_lane_in_order(
    lane: Lane, store: Store, wire: FaultyWire, stopping: Stop, caplog: pytest.LogCaptureFixture
) -> None:
    held = claims(store, lane.holdings)
    lane.holdings.ended.extend(map(succeed, held))
    stopping.request()
    wire.failure = StoreRefused("WRONGTYPE")
    lane.work()
    assert "2 outcomes are lost, their tasks run again" in caplog.text
    wire.failure = None
    assert statuses(store, held) == ["running", "running"]
