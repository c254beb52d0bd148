"""A process hears of changed documents while it follows a partition."""

import time
from collections.abc import Iterator, Sequence

import pytest
import redis

from service.store import SCRIPTS, Store, wakeups
from service.store.connection import connect
from service.tasks import moments, transitions
from service.tasks.document import QUEUED, SCHEDULED, Task
from service.tasks.uid import random_prefix
from tests.servers import RedisCluster, RedisServer, eventually
from tests.store.test_connection import is_at, move_slot

NOW = "2026-03-01T12:00:00.000000Z"
SO_LONG = 600.0


@pytest.fixture
def no_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the first look, there are only messages."""
    monkeypatch.setattr(wakeups, "LOOK_SECONDS", SO_LONG)


class Recorder:
    def __init__(self) -> None:
        self.looks = 0
        self.told: list[tuple[int, str, list[str]]] = []

    def changed(self, partition: int, status: str, uids: Sequence[str]) -> None:
        self.told.append((partition, status, list(uids)))

    def look(self, partition: int) -> None:
        self.looks += 1


@pytest.fixture
def recorder(store: Store) -> Recorder:
    recorder = Recorder()
    store.wakeups.follow(0, recorder)
    eventually(lambda: recorder.looks)
    return recorder


@pytest.fixture
def raw(server: RedisServer) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client


def new(store: Store, partition: int = 0, status: str = QUEUED, run_at: str | None = None) -> Task:
    uid = store.uid(random_prefix(), partition)
    created_at = moments.stamp(time.time())
    return Task(uid=uid, type="echo", queue="default", status=status, run_at=run_at, created_at=created_at)


def cancel(store: Store, uid: str) -> None:
    store.change(uid, lambda task: transitions.cancelled(task, NOW))


def channels(raw: redis.Redis) -> list[bytes]:
    found: list[bytes] = raw.execute_command("PUBSUB", "SHARDCHANNELS")
    return found


def test_each_batch_is_told_once_with_its_status(no_looks: None, store: Store, recorder: Recorder) -> None:
    queued, other = new(store), new(store)
    scheduled = new(store, status=SCHEDULED, run_at=NOW)
    store.create([queued, scheduled, other])
    eventually(lambda: len(recorder.told) == 2)
    store.promote(0, 10)
    eventually(lambda: len(recorder.told) == 3)
    cancel(store, other.uid)
    eventually(lambda: len(recorder.told) == 4)
    assert recorder.told == [
        (0, "queued", [queued.uid, other.uid]),
        (0, "scheduled", [scheduled.uid]),
        (0, "queued", [scheduled.uid]),
        (0, "cancelled", [other.uid]),
    ]
    assert recorder.looks == 1


def test_what_is_refused_is_not_told(no_looks: None, store: Store, recorder: Recorder) -> None:
    task, marker = new(store), new(store)
    store.create([task])
    store.create([task])
    store.create([marker])
    eventually(lambda: len(recorder.told) == 2)
    assert [uids for _, _, uids in recorder.told] == [[task.uid], [marker.uid]]


def test_nobody_listens_unless_somebody_follows(
    monkeypatch: pytest.MonkeyPatch, store: Store, raw: redis.Redis
) -> None:
    monkeypatch.setattr(wakeups, "LINGER_SECONDS", 0.0)
    eventually(lambda: channels(raw) == [])  # those of earlier tests have ended
    first, second = Recorder(), Recorder()
    store.wakeups.follow(0, first)
    store.wakeups.follow(0, second)
    eventually(lambda: channels(raw) == [b"sandbox:{0}:changes"])
    store.wakeups.unfollow(0, first)
    looks = second.looks
    eventually(lambda: second.looks > looks + 1)
    assert channels(raw) == [b"sandbox:{0}:changes"]
    store.wakeups.unfollow(0, second)
    eventually(lambda: channels(raw) == [])
    store.wakeups.follow(0, first)
    eventually(lambda: channels(raw) == [b"sandbox:{0}:changes"])


def test_a_listener_that_is_cut_off_looks_at_once_and_listens_again(
    no_looks: None, store: Store, recorder: Recorder, raw: redis.Redis
) -> None:
    raw.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    eventually(lambda: recorder.looks > 1)
    eventually(lambda: channels(raw))
    told = len(recorder.told)
    store.create([new(store)])
    eventually(lambda: len(recorder.told) > told)


def test_a_message_of_a_stranger_ends_nothing(
    no_looks: None, monkeypatch: pytest.MonkeyPatch, store: Store, recorder: Recorder, raw: redis.Redis
) -> None:
    monkeypatch.setattr(wakeups, "SUBSCRIBE_SECONDS", 0.1)
    raw.execute_command("SPUBLISH", "sandbox:{0}:changes", b"\xff")
    eventually(lambda: recorder.looks > 2)
    eventually(lambda: channels(raw))
    task = new(store)
    store.create([task])
    eventually(lambda: (0, QUEUED, [task.uid]) in recorder.told)


def test_while_nothing_can_be_heard_followers_look_more_often(
    no_looks: None, monkeypatch: pytest.MonkeyPatch, own_server: RedisServer
) -> None:
    monkeypatch.setattr(wakeups, "SUBSCRIBE_SECONDS", 0.5)
    store, recorder = Store(connect(own_server.url, SCRIPTS)), Recorder()
    store.wakeups.follow(0, recorder)
    eventually(lambda: recorder.looks)
    own_server.kill()
    eventually(lambda: recorder.looks > 5)
    own_server.start()
    with own_server.client() as raw:
        eventually(lambda: channels(raw))
    told = new(store)
    store.create([told])
    eventually(lambda: (0, QUEUED, [told.uid]) in recorder.told)
    store.close()


def test_a_server_that_does_not_answer_any_more_is_noticed(
    monkeypatch: pytest.MonkeyPatch, own_server: RedisServer
) -> None:
    store, recorder = Store(connect(own_server.url, SCRIPTS)), Recorder()
    monkeypatch.setattr(wakeups, "LOOK_SECONDS", 0.2)
    store.wakeups.follow(0, recorder)
    eventually(lambda: recorder.looks > 1)
    monkeypatch.setattr(wakeups, "LOOK_SECONDS", SO_LONG)
    monkeypatch.setattr(wakeups, "SUBSCRIBE_SECONDS", SO_LONG)
    looks = recorder.looks
    own_server.freeze()
    try:
        eventually(lambda: recorder.looks > looks + 5)
    finally:
        own_server.thaw()
        store.close()


def test_a_user_without_the_right_to_the_channel_still_creates_and_changes(
    monkeypatch: pytest.MonkeyPatch, server: RedisServer, raw: redis.Redis
) -> None:
    raw.execute_command("ACL", "SETUSER", "quiet", "on", ">secret", "~*", "+@all", "resetchannels")
    store, recorder = Store(connect(f"unix://quiet:secret@{server.socket}", SCRIPTS)), Recorder()
    monkeypatch.setattr(wakeups, "LOOK_SECONDS", SO_LONG)
    store.wakeups.follow(0, recorder)
    task = new(store)
    assert store.create([task]) == []
    cancel(store, task.uid)
    found = store.read(task.uid)
    assert found is not None
    assert found.task.status == "cancelled"
    eventually(lambda: recorder.looks > 5)
    store.close()
    raw.execute_command("ACL", "DELUSER", "quiet")


def test_every_partition_of_a_cluster_is_heard(no_looks: None, cluster: RedisCluster) -> None:
    store, recorder = Store(connect(cluster.url, SCRIPTS), partitions=4), Recorder()
    for partition in range(4):
        store.wakeups.follow(partition, recorder)
    eventually(lambda: recorder.looks >= 4)
    tasks = [new(store, partition) for partition in range(4)]
    for task in tasks:
        store.create([task])
    eventually(lambda: len(recorder.told) == 4)
    assert sorted(recorder.told) == [(partition, QUEUED, [task.uid]) for partition, task in enumerate(tasks)]
    store.close()


def test_a_slot_that_moves_is_listened_to_at_its_new_home(no_looks: None, own_cluster: RedisCluster) -> None:
    store, recorder = Store(connect(own_cluster.url, SCRIPTS)), Recorder()
    store.wakeups.follow(0, recorder)
    eventually(lambda: recorder.looks)
    target = next(node for node in own_cluster.nodes if not is_at(node, 0))
    move_slot(own_cluster, 0, target)
    with target.client() as there:
        eventually(lambda: channels(there))
    task = new(store)
    store.create([task])
    eventually(lambda: (0, QUEUED, [task.uid]) in recorder.told)
    store.close()
