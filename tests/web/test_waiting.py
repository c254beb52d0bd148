import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from flask.testing import FlaskClient

from service.errors import StoreUnavailable
from service.store import Store
from service.web.app import Web
from service.web.waiting import Waiting, preferred_seconds
from tests.servers import eventually


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
    assert 1 <= waiting.took < 3


def test_a_finished_task_is_answered_at_once(app: Web, uid: str, finish: Callable[..., None]) -> None:
    finish(uid)
    waiting = InBackground(lambda: read(app, uid, 30))
    assert waiting.join().json["status"] == "succeeded"
    assert waiting.took < 1


def test_past_the_limit_nobody_waits(app: Web, uid: str) -> None:
    full = [InBackground(lambda: read(app, uid, 30)) for _ in range(3)]
    eventually(lambda: waiters(app) == 3)
    fourth = InBackground(lambda: read(app, uid, 30))
    assert fourth.join().json["status"] == "queued"
    assert fourth.took < 1
    app.waiting.release()
    assert [waiting.join().json["status"] for waiting in full] == ["queued"] * 3


def test_when_the_process_stops_the_present_document_is_answered(app: Web, uid: str) -> None:
    waiting = InBackground(lambda: read(app, uid, 30))
    eventually(lambda: waiters(app) == 1)
    app.waiting.release()
    assert waiting.join().json["status"] == "queued"
    late = InBackground(lambda: read(app, uid, 30))
    assert late.join().json["status"] == "queued"
    assert waiting.took < 5 and late.took < 1


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

    with pytest.raises(StoreUnavailable):
        Waiting(lost, limit=1).wait(uid, found, 30)


def test_many_waiters_share_their_looks_at_redis(
    store: Store, client: FlaskClient, finish: Callable[..., None]
) -> None:
    uids = [client.post("/tasks", json={"type": "echo"}).json["uid"] for _ in range(50)]
    looks: list[int] = []

    def counted(uids: Sequence[str]) -> list[bytes | None]:
        looks.append(len(uids))
        return store.texts(uids)

    waiting = Waiting(counted, limit=100)
    answers = [InBackground(lambda uid=uid: waiting.wait(uid, store.read(uid), 30)) for uid in uids]  # type: ignore[misc]
    eventually(lambda: max(looks, default=0) >= 40)
    for uid in uids:
        finish(uid)
    assert all(answer.join().task.finished for answer in answers)
    eventually(lambda: not waiting._watching)
