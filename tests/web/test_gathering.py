"""What clients that create tasks together are told when it fails."""

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from service.errors import StoreRefused, StoreUnavailable
from service.store import Store
from service.tasks import moments
from service.tasks.document import Task
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
