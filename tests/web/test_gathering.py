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
from service.web.api import gathering as gathering_module
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
    failures, later = clients_around(store, monkeypatch, fault)
    others = [failure for failure in failures if failure is not fault]
    assert len({id(failure) for failure in failures}) == 4 and len(others) == 3
    assert {(type(failure), str(failure)) for failure in others} == {told}
    is_lost = isinstance(fault, StoreUnavailable)
    assert [type(failure) for failure in later] == ([StoreUnavailable] * 2 if is_lost else [])


def clients_around(
    store: Store, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> tuple[list[Exception], list[Exception]]:
    """Returns what four clients are told whose round trip fails, and what two are told that came while it was made."""
    gates = [threading.Event() for _ in range(2)]
    trips: list[Sequence[Sequence[Task]]] = []
    create_each = store.create_each

    def held(groups: Sequence[Sequence[Task]]) -> Any:
        trips.append(groups)
        number = len(trips)
        if number <= len(gates):
            gates[number - 1].wait(10)
        if number == 2:
            raise fault
        return create_each(groups)

    monkeypatch.setattr(store, "create_each", held)
    gathering = Gathering(store)
    [round_trips] = gathering._round_trips
    first, failures, later = list[Exception](), list[Exception](), list[Exception]()

    def create(told: list[Exception]) -> None:
        uid = store.uid(random_prefix())
        try:
            gathering.create([Task(uid=uid, type="echo", queue="default", status="queued", created_at=NOW)])
        except Exception as error:
            told.append(error)

    def start(count: int, told: list[Exception]) -> list[threading.Thread]:
        clients = [threading.Thread(target=create, args=[told]) for _ in range(count)]
        for client in clients:
            client.start()
        return clients

    clients = start(1, first)
    eventually(lambda: len(trips) == 1)
    clients += start(4, failures)
    eventually(lambda: len(round_trips._waiting) == 4)
    gates[0].set()
    eventually(lambda: len(trips) == 2)
    clients += start(2, later)
    eventually(lambda: len(round_trips._waiting) == 2)
    gates[1].set()
    for client in clients:
        client.join(10)
    assert not first and not any(client.is_alive() for client in clients)
    return failures, later


def test_who_is_interrupted_before_the_round_trip_leaves_nobody_waiting(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    gathering = Gathering(store)

    def create() -> list[Any]:
        uid = store.uid(random_prefix())
        return gathering.create([Task(uid=uid, type="echo", queue="default", status="queued", created_at=NOW)])

    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(gathering_module.time, "sleep", interrupted)
        with pytest.raises(KeyboardInterrupt):
            create()
    assert create() == []


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
