"""Clients that create tasks together: how much goes in one round trip, and what they are told when it fails."""

import threading
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec import Raw

from service.errors import StoreRefused, StoreUnavailable
from service.store import PORTION_BYTES, Store
from service.tasks import moments
from service.tasks.document import Task, encode
from service.tasks.uid import random_prefix
from service.web.api.gathering import Gathering
from tests.servers import eventually

NOW = moments.stamp(0)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (StoreUnavailable("Redis cannot be reached"), (StoreUnavailable, "Redis cannot be reached")),
        (StoreRefused("WRONGTYPE"), (StoreRefused, "WRONGTYPE")),
        (ValueError("of another client"), (StoreUnavailable, "a request beside it failed")),
    ],
)
def test_each_client_is_told_by_an_error_of_its_own(
    store: Store, monkeypatch: pytest.MonkeyPatch, fault: Exception, told: tuple[type, str]
) -> None:
    together: list[Sequence[Sequence[Task]]] = []
    begun = threading.Event()

    def lost(groups: Sequence[Sequence[Task]]) -> Any:
        together.append(groups)
        begun.wait(10)
        raise fault

    monkeypatch.setattr(store, "create_each", lost)
    gathering = Gathering(store)
    failures: list[BaseException] = []

    def create() -> None:
        uid = store.uid(random_prefix())
        try:
            gathering.create([Task(uid=uid, type="echo", queue="default", status="queued", created_at=NOW)])
        except Exception as error:
            failures.append(error)

    clients = [threading.Thread(target=create) for _ in range(5)]
    clients[0].start()
    eventually(lambda: together)
    for client in clients[1:]:
        client.start()
    [round_trips] = gathering._round_trips
    eventually(lambda: len(round_trips._waiting) == 4)
    begun.set()
    for client in clients:
        client.join(10)
    others = [failure for failure in failures if failure is not fault]
    assert len({id(failure) for failure in failures}) == 5 and len(others) == 4
    assert {(type(failure), str(failure)) for failure in others} == {told}


def test_a_round_trip_carries_a_portion_and_the_others_follow_in_turn(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    trips: list[list[str]] = []
    sizes: list[int] = []
    begun, create_each = threading.Event(), store.create_each

    def noted(groups: Sequence[Sequence[Task]]) -> Any:
        trips.append([group[0].uid for group in groups])
        sizes.append(sum(len(encode(task)) for group in groups for task in group))
        begun.wait(10)
        return create_each(groups)

    monkeypatch.setattr(store, "create_each", noted)
    gathering = Gathering(store)
    [round_trips] = gathering._round_trips
    large = Raw(b'{"message":"' + b"x" * 200_000 + b'"}')
    uids = [store.uid(random_prefix()) for _ in range(40)]

    def create(uid: str) -> None:
        gathering.create([Task(uid=uid, type="echo", queue="default", status="queued", created_at=NOW, args=large)])

    clients = [threading.Thread(target=create, args=[uid]) for uid in uids]
    for number, client in enumerate(clients):
        client.start()
        eventually(lambda number=number: trips and len(round_trips._waiting) == number)
    begun.set()
    for client in clients:
        client.join(10)

    assert all(store.read_many(uids))
    assert [uid for trip in trips for uid in trip] == uids
    assert max(sizes) <= PORTION_BYTES and len(trips) < 10
