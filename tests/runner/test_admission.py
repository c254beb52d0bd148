"""Who takes up a place without right leaves it, and the leases do not wait for that."""

import time
from collections import Counter
from typing import Any

import pytest

from service.errors import StoreUnavailable
from service.runner.admission import SLICE_SECONDS, Admission
from service.store import SCRIPTS, Store
from service.store.connection import Command, connect
from service.store.keys import duty, limit
from tests.runner.wires import FaultyWire
from tests.servers import RedisServer

PARTITIONS = 8
PLACES = 100
CALL_SECONDS = 0.001


class SlowWire(FaultyWire):
    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.calls: Counter[str] = Counter()

    def call(self, partition: int, *commands: Command, **options: Any) -> list[Any]:
        time.sleep(CALL_SECONDS)
        self.calls[str(commands[0][0])] += 1
        return super().call(partition, *commands, **options)


@pytest.fixture
def slow(server: RedisServer) -> SlowWire:
    """With places in each partition, and what is gone at one of them."""
    wire = connect(server.url, SCRIPTS)
    for partition in range(PARTITIONS):
        wire.call(partition, ("SADD", limit(partition, "places"), *(f"some:0:{number}" for number in range(PLACES))))
        wire.call(partition, ("SADD", limit(partition, "admitted:some:0:7"), *(f"gone-{each}" for each in range(150))))
    return SlowWire(server.url)


def left(store: Store) -> list[int]:
    return [store._wire.call(each, ("SCARD", limit(each, "admitted:some:0:7")))[0] for each in range(PARTITIONS)]


def test_places_are_cleared_in_slices_and_each_goes_on_where_the_last_one_was(slow: SlowWire) -> None:
    store = Store(slow, partitions=PARTITIONS)
    admission = Admission(store)
    slices, before = 1, 0
    while admission.vacate():
        assert slow.calls.total() - before <= SLICE_SECONDS / CALL_SECONDS + 2
        slices, before = slices + 1, slow.calls.total()
    assert left(store) == [0] * PARTITIONS
    assert slow.calls["SRANDMEMBER"] == PARTITIONS * (1 + 2 * PLACES)
    assert slow.calls["MGET"] == PARTITIONS * 2, "a hundred documents at a time"
    assert slices > 10
    store.close()


def test_what_an_error_cuts_short_begins_anew_when_it_is_due_again(slow: SlowWire) -> None:
    store = Store(slow, partitions=PARTITIONS)
    admission = Admission(store)
    assert admission.vacate() is True
    slow.failure = StoreUnavailable("away")
    with pytest.raises(StoreUnavailable):
        admission.vacate()
    slow.failure = None
    assert admission.vacate() is False
    slow._wire.call(0, ("DEL", duty(0, "vacate")))
    assert admission.vacate() is True
    store.close()
