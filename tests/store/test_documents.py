"""What is stored under a UID and is no task document: it is seen, left alone, and removed only on request."""

import time
from collections.abc import Iterator

import pytest
import redis

from service.errors import InvalidTransition
from service.store import SCRIPTS, Store, document
from service.store.connection import connect
from service.tasks import moments, transitions
from service.tasks.document import SCHEDULED, UNREADABLE, Task, encode
from service.tasks.uid import random_prefix
from tests.servers import RedisServer
from tests.store.test_store import NOW, QUEUES, STREAM, filter_of, finished, interrupted, new, stored

DUE = "sandbox:{0}:due"
OURS, OTHER = "a" * 64, "b" * 64


@pytest.fixture
def raw(server: RedisServer) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client


def text(**fields: object) -> bytes:
    known = {"uid": OURS, "type": "echo", "queue": "default", "status": "queued", "created_at": NOW}
    return encode(Task(**(known | fields)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        (b"", "truncated"),
        (b"{", "truncated"),
        (b"no JSON", "malformed"),
        (b"\xff\xfe", "malformed"),
        (b"null", "missing required field `uid`"),
        (text()[:-1] + b',"args":' + b"[" * 100_000, "recursion"),
        (text(attempt="one"), "Expected `int`, got `str`"),
        (text(claim={"consumer": 1}), "claim"),
        (text(uid=OTHER), f"belongs to another UID: {OTHER}"),
        (text(status="dreaming"), "no status 'dreaming'"),
        (text(created_at="yesterday"), "Invalid isoformat"),
        (text(created_at="2026-03-01"), "invalid literal"),
        (text(run_at="soon"), "Invalid isoformat"),
        (text(started_at=""), "Invalid isoformat"),
        (text()[:-1] + b',"result":"\xff"}', "can't decode byte 0xff"),
    ],
)
def test_what_is_no_task_document_is_read_as_unreadable(stored: bytes, reason: str) -> None:
    found = document(OURS, stored)
    assert found is not None and not found.is_readable
    assert (found.task.uid, found.task.status, found.text) == (OURS, UNREADABLE, stored)
    assert found.problem.startswith("what is stored is no task document: ") and reason in found.problem


def test_a_task_document_is_read_as_it_is_and_nothing_as_nothing() -> None:
    found = document(OURS, text())
    assert found is not None and found.is_readable and found.problem == ""
    assert encode(found.task) == text()
    assert document(OURS, None) is None


def test_no_transition_takes_it(store: Store, raw: redis.Redis) -> None:
    task = stored(store)
    raw.set(task.uid, b"{")
    for transition in (transitions.requeued, transitions.promoted, lambda task: transitions.cancelled(task, NOW)):
        with pytest.raises(InvalidTransition, match=rf"DELETE /tasks/{task.uid}\?purge removes it"):
            store.change(task.uid, transition)
    assert raw.get(task.uid) == b"{"


def test_its_shelf_says_what_it_was(store: Store, raw: redis.Redis) -> None:
    task = stored(store, queue="reports", at=NOW)
    raw.set(task.uid, b"{")
    found = store.read(task.uid)
    assert found is not None
    assert (found.task.type, found.task.queue, found.task.created_at) == ("echo", "reports", NOW)


def test_what_stands_on_no_shelf_is_read_too(store: Store, raw: redis.Redis) -> None:
    uid = store.uid(random_prefix())
    raw.set(uid, b"{")
    found = store.read(uid)
    assert found is not None and found.task.status == UNREADABLE
    assert store.purge(uid) == found and not raw.exists(uid)


def test_the_list_shows_it_in_its_place(store: Store, raw: redis.Redis) -> None:
    uids = [stored(store).uid for _ in range(3)]
    raw.set(uids[1], b"{")

    def listed(**only: str) -> list[tuple[str, str]]:
        page, _ = store.index.page(limit=10, only=filter_of(**only))
        return [(task.uid, task.status) for task in page]

    assert listed() == [(uids[2], "queued"), (uids[1], "unreadable"), (uids[0], "queued")]
    assert listed(type="echo", queue="default") == listed()
    assert listed(type="other") == []
    assert listed(status="queued") == [(uids[2], "queued"), (uids[0], "queued")]
    assert listed(status="unreadable") == [(uids[1], "unreadable")]


def test_a_due_time_is_kept_and_holds_up_nobody(store: Store, raw: redis.Redis) -> None:
    broken = stored(store, status=SCHEDULED, run_at=NOW)
    raw.set(broken.uid, b"{")
    fine = [stored(store, status=SCHEDULED, run_at=moments.stamp(time.time())) for _ in range(2)]

    assert [store.promote(0, 1) for _ in range(3)] == [0, 1, 1]

    assert {entry.uid for entry in store.queues.fetch(0, QUEUES, "a", 10)} == {task.uid for task in fine}
    assert raw.get(broken.uid) == b"{"
    due = raw.zscore(DUE, broken.uid)
    assert due is not None and 30 < due / 1e6 - time.time() < 61

    raw.set(broken.uid, encode(broken))
    raw.zadd(DUE, {broken.uid: 0})
    assert store.promote(0, 10) == 1


def test_its_due_time_stays_as_it_is_when_it_was_mended_meanwhile(server: RedisServer, raw: redis.Redis) -> None:
    store = Store(connect(server.url, SCRIPTS))
    task = stored(store, status=SCHEDULED, run_at=NOW)
    due = raw.zscore(DUE, task.uid)
    raw.set(task.uid, b"{")
    late = interrupted(server, 2, lambda: raw.set(task.uid, encode(task)))
    assert late.promote(0, 10) == 0
    assert raw.zscore(DUE, task.uid) == due
    late.close()
    store.close()


def test_a_purge_removes_it_with_all_that_points_at_it(store: Store, raw: redis.Redis) -> None:
    queued, scheduled = stored(store), stored(store, status=SCHEDULED, run_at=NOW)
    for task in (queued, scheduled):
        raw.set(task.uid, b"{")
        purged = store.purge(task.uid)
        assert purged is not None and (purged.task.status, purged.task.type) == (UNREADABLE, "echo")
        assert store.purge(task.uid) is None
    assert store.index.page(limit=10) == ([], None)
    assert not raw.exists(DUE, queued.uid, scheduled.uid)
    [entry] = store.queues.fetch(0, QUEUES, "a", 10)
    assert store.queues.drop("a", [entry]) == [] and raw.xlen(STREAM) == 0


def test_a_purge_removes_what_has_finished_and_nothing_else(store: Store, raw: redis.Redis) -> None:
    done, waits = finished(store), new(store)
    assert store.create([waits]) == []
    purged = store.purge(done.uid)
    assert purged is not None and purged.task == done and not raw.exists(done.uid)
    with pytest.raises(InvalidTransition, match="the task is queued: cancel it first"):
        store.purge(waits.uid)
    assert store.read(waits.uid) is not None


def test_a_purge_whose_answer_is_lost_returns_what_it_removed(store: Store, server: RedisServer) -> None:
    done = finished(store)
    repeated = interrupted(server, 2, lambda: store.purge(done.uid))  # what was sent on a dead connection
    purged = repeated.purge(done.uid)
    assert purged is not None and purged.task == done
    assert store.read(done.uid) is None and repeated.purge(done.uid) is None
    repeated.close()


def test_a_purge_looks_again_when_the_document_has_changed(server: RedisServer, raw: redis.Redis) -> None:
    store = Store(connect(server.url, SCRIPTS))
    done = finished(store)
    late = interrupted(server, 2, lambda: store.change(done.uid, transitions.requeued))
    with pytest.raises(InvalidTransition, match="the task is queued"):
        late.purge(done.uid)
    assert raw.exists(done.uid)
    late.close()
    store.close()
