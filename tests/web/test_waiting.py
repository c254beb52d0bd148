import json
import threading
import time
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from flask.testing import FlaskClient

from service.errors import StoreUnavailable
from service.store import Store, wakeups
from service.tasks import moments
from service.tasks.document import Task
from service.web.api.waiting import Waiting, preferred_seconds
from service.web.app import Web
from tests.servers import BUSY, RedisServer, eventually
from tests.web.conftest import WebServer


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
    return app.waiting.count


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


def test_a_wait_that_cannot_begin_takes_no_place(app: Web, uid: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(app.waiting._wakeups, "follow", lambda *_: 1 // 0)
        assert [read(app, uid, 1).status_code for _ in range(5)] == [500] * 5
    assert waiters(app) == 0
    waiting = InBackground(lambda: read(app, uid, 30))
    eventually(lambda: waiters(app) == 1)
    app.waiting.release()
    assert waiting.join().status_code == 200


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
    waiting = Waiting(lost, store.partition, store.wakeups, limit=2)

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

    waiting = Waiting(half_lost, store.partition, store.wakeups, limit=2)
    clients = [InBackground(lambda uid=uid: outcome(waiting, store, uid)) for uid in uids]  # type: ignore[misc]
    assert clients[1].join() == "Redis cannot be reached"
    assert clients[0].join() == "queued" and clients[0].took > 0.5


def test_a_document_that_cannot_be_read_ends_only_the_wait_for_it(
    monkeypatch: pytest.MonkeyPatch, two: tuple[Store, list[str]]
) -> None:
    monkeypatch.setattr(wakeups, "LOOK_SECONDS", 0.05)
    store, uids = two
    partition = store.partition(uids[0])
    assert partition is not None
    uids[1] = store.uid("1" * 59, partition)
    store.create([Task(uid=uids[1], type="echo", queue="default", status="queued", created_at=moments.stamp(0))])

    def half_broken(asked: Sequence[str]) -> list[bytes | None]:
        together = len(asked) == 2
        texts = zip(asked, store.texts(asked), strict=True)
        return [b"broken" if together and uid == uids[1] else text for uid, text in texts]

    waiting = Waiting(half_broken, store.partition, store.wakeups, limit=2)
    clients = [InBackground(lambda uid=uid: outcome(waiting, store, uid)) for uid in reversed(uids)]  # type: ignore[misc]
    assert clients[0].join() == "unreadable"
    assert clients[1].join() == "queued" and clients[1].took > 0.5


def outcome(waiting: Waiting, store: Store, uid: str) -> str:
    found = store.read(uid)
    assert found is not None
    try:
        seen = waiting.wait(uid, found, 4)
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

    waiting = Waiting(counted, store.partition, store.wakeups, limit=100)
    answers = [InBackground(lambda uid=uid: waiting.wait(uid, store.read(uid), 30)) for uid in uids]  # type: ignore[misc]
    eventually(lambda: max(looks, default=0) == 50)
    for uid in uids:
        finish(uid)
    assert all(answer.join().task.finished for answer in answers)
    assert waiting.count == 0


# --- how a waiter learns of the end ----------------------------------------------------------------


def is_listening(redis_server: RedisServer) -> bool:
    return bool(redis_server.client().execute_command("PUBSUB", "SHARDCHANNELS"))


def test_a_message_is_enough(
    monkeypatch: pytest.MonkeyPatch, store: Store, uid: str, finish: Callable[..., None]
) -> None:
    monkeypatch.setattr(wakeups, "LOOK_SECONDS", 600.0)
    looks: list[Sequence[str]] = []

    def counted(uids: Sequence[str]) -> list[bytes | None]:
        looks.append(uids)
        return store.texts(uids)

    waiting = Waiting(counted, store.partition, store.wakeups, limit=1)
    client = InBackground(lambda: waiting.wait(uid, store.read(uid), 30))  # type: ignore[arg-type]
    eventually(lambda: len(looks) == 2)  # the client's own, and the one after subscribing
    finish(uid)
    assert client.join().task.finished


def test_a_lost_message_is_made_up_for_by_a_look(
    app: Web, store: Store, uid: str, finish: Callable[..., None], redis_server: RedisServer
) -> None:
    [queued] = store.texts([uid])
    finish(uid)
    [finished] = store.texts([uid])
    raw = redis_server.client()
    raw.set(uid, queued or b"")
    waiting = InBackground(lambda: read(app, uid, 30))
    eventually(lambda: is_listening(redis_server) and waiters(app) == 1)
    raw.set(uid, finished or b"")  # no script, no message
    assert waiting.join().json["status"] == "succeeded"


def test_a_listener_that_is_cut_off_costs_a_moment(
    monkeypatch: pytest.MonkeyPatch, app: Web, uid: str, finish: Callable[..., None], redis_server: RedisServer
) -> None:
    monkeypatch.setattr(wakeups, "LOOK_SECONDS", 600.0)
    waiting = InBackground(lambda: read(app, uid, 30))
    eventually(lambda: is_listening(redis_server) and waiters(app) == 1)
    redis_server.client().execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    finish(uid)
    assert waiting.join().json["status"] == "succeeded"


def test_what_ends_while_a_client_joins_is_seen(
    monkeypatch: pytest.MonkeyPatch, app: Web, store: Store, uid: str, finish: Callable[..., None]
) -> None:
    monkeypatch.setattr(wakeups, "LOOK_SECONDS", 600.0)
    first = InBackground(lambda: read(app, app.test_client().post("/tasks", json={"type": "echo"}).json["uid"], 30))
    eventually(lambda: is_listening_in(app))
    found = store.read(uid)
    assert found is not None
    finish(uid)  # the message comes before the waiter
    assert InBackground(lambda: app.waiting.wait(uid, found, 30)).join().task.finished
    app.waiting.release()
    first.join()


def is_listening_in(app: Web) -> bool:
    return app.waiting.count == 1


def test_the_message_comes_in_a_real_worker(
    make_server: Callable[..., WebServer], store: Store, finish: Callable[..., None], redis_server: RedisServer
) -> None:
    server = make_server(workers=1).start()
    uids = [post(server) for _ in range(20)]
    answers = [InBackground(lambda uid=uid: get(server, uid)) for uid in uids]  # type: ignore[misc]
    eventually(lambda: is_listening(redis_server))
    for uid in uids:
        finish(uid)
    assert [answer.join()["status"] for answer in answers] == ["succeeded"] * 20


def post(server: WebServer) -> str:
    request = urllib.request.Request(
        f"{server.url}/tasks", b'{"type": "echo"}', {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return str(json.load(answer)["uid"])


def get(server: WebServer, uid: str) -> Any:
    request = urllib.request.Request(f"{server.url}/tasks/{uid}", headers={"Prefer": "wait=30"})
    with urllib.request.urlopen(request, timeout=40) as answer:
        return json.load(answer)
