import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from flask.testing import FlaskClient

from service.errors import StoreUnavailable
from service.store import Store
from service.tasks import moments
from service.tasks.document import Task
from service.web.api.waiting import Waiting, preferred_seconds
from service.web.app import Web
from tests.servers import BUSY, eventually


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (None, None), ("", None), ("wait=5", 5), ("respond-async, wait=5", 5), ("wait=5; x=1", 5), ("WAIT = 5", 5),
        ('wait="5"', 5), ("wait=600", 60), ("wait=0", 0), ("wait", None), ("wait=-1", None), ("wait=x", None),
        ("await=5", None), ("wait=1.5", None),
    ],
)  # fmt: skip
def test_the_preference_is_read_as_in_rfc_7240(prefer: str | None, seconds: int | None) -> None:
    assert preferred_seconds(prefer) == seconds


class InBackground:
    """A request in a thread of its own."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self.answer: Any = None
        self.took = 0.0
        self._call = call
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        began = time.monotonic()
        self.answer = self._call()
        self.took = time.monotonic() - began

    def join(self) -> Any:
        self._thread.join(10)
        assert not self._thread.is_alive()
        return self.answer


def read(app: Web, uid: str, wait: int) -> Any:
    return app.test_client().get(f"/tasks/{uid}", headers={"Prefer": f"wait={wait}"})


@pytest.fixture
def app(make_app: Callable[..., Web]) -> Web:
    return make_app(waiting_clients=3)


@pytest.fixture
def uid(app: Web) -> str:
    return str(app.test_client().post("/tasks", json={"type": "echo"}).json["uid"])


def waiters(app: Web) -> int:
    return len(app.waiting._waiters)


def test_a_waiting_client_is_answered_when_the_task_finishes(app: Web, uid: str, finish: Callable[..., None]) -> None:
    waiting = InBackground(lambda: read(app, uid, 30))
    eventually(lambda: waiters(app) == 1)
    finish(uid)
    answer = waiting.join()
    assert (answer.status_code, answer.json["status"]) == (200, "succeeded")
    assert answer.headers["Preference-Applied"] == "wait"
    assert waiting.took < 5 and waiters(app) == 0


def test_both_ways_of_reading_wait(app: Web, uid: str, finish: Callable[..., None]) -> None:
    headers = {"Prefer": "wait=30"}
    waiting = InBackground(lambda: app.test_client().get(f"/tasks?task_id={uid}", headers=headers))
    eventually(lambda: waiters(app) == 1)
    finish(uid)
    assert waiting.join().json["status"] == "succeeded"


def test_the_wait_is_over_after_so_many_seconds(app: Web, uid: str) -> None:
    waiting = InBackground(lambda: read(app, uid, 1))
    answer = waiting.join()
    assert (answer.status_code, answer.json["status"]) == (200, "queued")
    assert 1 <= waiting.took < 3 * BUSY


def test_a_finished_task_is_answered_at_once(app: Web, uid: str, finish: Callable[..., None]) -> None:
    finish(uid)
    waiting = InBackground(lambda: read(app, uid, 30))
    assert waiting.join().json["status"] == "succeeded"
    assert waiting.took < 1 * BUSY


def test_past_the_limit_nobody_waits(app: Web, uid: str) -> None:
    full = [InBackground(lambda: read(app, uid, 30)) for _ in range(3)]
    eventually(lambda: waiters(app) == 3)
    fourth = InBackground(lambda: read(app, uid, 30))
    assert fourth.join().json["status"] == "queued"
    assert fourth.took < 1 * BUSY
    app.waiting.release()
    assert [waiting.join().json["status"] for waiting in full] == ["queued"] * 3


def test_when_the_process_stops_the_present_document_is_answered(app: Web, uid: str) -> None:
    waiting = InBackground(lambda: read(app, uid, 30))
    eventually(lambda: waiters(app) == 1)
    app.waiting.release()
    assert waiting.join().json["status"] == "queued"
    late = InBackground(lambda: read(app, uid, 30))
    assert late.join().json["status"] == "queued"
    assert waiting.took < 5 and late.took < 1 * BUSY


def test_a_task_that_vanishes_is_not_found(app: Web, uid: str, redis_server: Any) -> None:
    waiting = InBackground(lambda: read(app, uid, 30))
    eventually(lambda: waiters(app) == 1)
    redis_server.client().flushall()
    assert waiting.join().status_code == 404


def test_when_redis_is_lost_the_wait_ends_with_a_503(store: Store, client: FlaskClient) -> None:
    uid = client.post("/tasks", json={"type": "echo"}).json["uid"]
    found = store.read(uid)
    assert found is not None

    def lost(uids: Sequence[str]) -> list[bytes | None]:
        raise StoreUnavailable("Redis cannot be reached")

    failures: list[BaseException] = []
    waiting = Waiting(lost, store.partition, limit=2)

    def wait() -> None:
        with pytest.raises(StoreUnavailable, match="cannot be reached") as failed:
            waiting.wait(uid, found, 30)
        failures.append(failed.value)

    clients = [InBackground(wait) for _ in range(2)]
    assert [client.join() for client in clients] == [None, None]
    assert failures[0] is not failures[1]


@pytest.fixture
def two(store: Store) -> tuple[Store, list[str]]:
    """A store of two partitions, and a task in each."""
    store = Store(store._wire, partitions=2)
    uids = [store.uid("0" * 59, partition) for partition in (0, 1)]
    for uid in uids:
        store.create([Task(uid=uid, type="echo", queue="default", status="queued", created_at=moments.stamp(0))])
    return store, uids


def test_who_waits_for_a_task_of_another_partition_goes_on_waiting(two: tuple[Store, list[str]]) -> None:
    store, uids = two

    def half_lost(asked: Sequence[str]) -> list[bytes | None]:
        if uids[1] in asked:
            raise StoreUnavailable("Redis cannot be reached")
        return store.texts(asked)

    waiting = Waiting(half_lost, store.partition, limit=2)
    clients = [InBackground(lambda uid=uid: outcome(waiting, store, uid)) for uid in uids]  # type: ignore[misc]
    assert clients[1].join() == "Redis cannot be reached"
    assert clients[0].join() == "queued" and clients[0].took > 0.5


def test_a_document_that_cannot_be_read_fails_only_who_waits_for_it(two: tuple[Store, list[str]]) -> None:
    store, uids = two
    partition = store.partition(uids[0])
    assert partition is not None
    uids[1] = store.uid("1" * 59, partition)
    store.create([Task(uid=uids[1], type="echo", queue="default", status="queued", created_at=moments.stamp(0))])

    def half_broken(asked: Sequence[str]) -> list[bytes | None]:
        together = len(asked) == 2
        texts = zip(asked, store.texts(asked), strict=True)
        return [b"broken" if together and uid == uids[1] else text for uid, text in texts]

    waiting = Waiting(half_broken, store.partition, limit=2)
    clients = [InBackground(lambda uid=uid: outcome(waiting, store, uid)) for uid in reversed(uids)]  # type: ignore[misc]
    assert "malformed" in clients[0].join()
    assert clients[1].join() == "queued" and clients[1].took > 0.5


def outcome(waiting: Waiting, store: Store, uid: str) -> str:
    found = store.read(uid)
    assert found is not None
    try:
        seen = waiting.wait(uid, found, 1)
    except Exception as error:
        return str(error)
    assert seen is not None
    return seen.task.status


def test_many_waiters_share_their_looks_at_redis(
    store: Store, client: FlaskClient, finish: Callable[..., None]
) -> None:
    uids = [client.post("/tasks", json={"type": "echo"}).json["uid"] for _ in range(50)]
    looks: list[int] = []

    def counted(uids: Sequence[str]) -> list[bytes | None]:
        looks.append(len(uids))
        return store.texts(uids)

    waiting = Waiting(counted, store.partition, limit=100)
    answers = [InBackground(lambda uid=uid: waiting.wait(uid, store.read(uid), 30)) for uid in uids]  # type: ignore[misc]
    eventually(lambda: max(looks, default=0) >= 40)
    for uid in uids:
        finish(uid)
    assert all(answer.join().task.finished for answer in answers)
    eventually(lambda: not waiting._watching)
