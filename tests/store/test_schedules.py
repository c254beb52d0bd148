"""Schedules in Redis: each time has its task once."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from service.store import SCRIPTS, Change, Store
from service.store.connection import connect
from service.store.schedules import Found
from service.tasks import moments, schedule, transitions
from service.tasks.document import CANCELLED, NULL, QUEUED, Task
from service.tasks.schedule import API, Schedule, Terms
from tests.servers import RedisCluster, RedisServer

HOUR = 3600 * 1_000_000


@pytest.fixture
def raw(server: RedisServer) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client


def put(store: Store, name: str = "one", **plan: Any) -> Schedule:
    wanted = Terms(type="echo", **({"every": 3600.0} | plan))

    def as_wanted(before: Schedule | None, now: int) -> Schedule:
        return schedule.put(before, name, wanted, paused=False, source=API, now=now, by=None)

    return store.schedules.change(name, as_wanted)[0]


def ripen(store: Store, name: str = "one", seconds: float = 1.0) -> int:
    """Its time has come, and came so many seconds ago. Returns that time."""
    found = read(store, name)
    assert found.schedule is not None
    now = store.schedules.now()
    after = schedule.decode(found.text)
    after.next_at = moments.stamp_exactly(now - int(seconds * 1_000_000))
    after.anchor = moments.stamp_exactly(now - int(seconds * 1_000_000) - HOUR)
    after.revision += 1
    assert store.schedules.replace(name, found.text, after, now)
    return moments.microseconds(after.next_at)


def read(store: Store, name: str = "one") -> Found:
    found = store.schedules.read(name)
    assert found is not None
    return found


def due(store: Store) -> tuple[int, list[Found]]:
    """As a runner finds out."""
    for group in store.groups:
        store.promote(group[0], 10)
    asked = list(store.schedules.due())
    return (asked[0][0] if asked else 0, [found for _, each in asked for found in each])


def fire(store: Store, found: Found, now: int, last: Any = None) -> bool:
    assert found.schedule is not None
    turn = schedule.turn(found.schedule, now, is_busy=False)
    assert turn.fires is not None
    uid = store.schedules.uid(found.name, turn.fires)
    task = Task(uid=uid, type="echo", queue="default", status=QUEUED, created_at=moments.stamp(time.time()))
    return store.schedules.fire(found, turn, task, last, now)


def uids(store: Store) -> list[str]:
    return [task.uid for task in store.index.page(limit=100)[0]]


def test_a_schedule_is_stored_listed_and_removed(store: Store, raw: redis.Redis) -> None:
    two, one = put(store, "two"), put(store, "one")
    assert [found.schedule for found in store.schedules.all()] == [one, two]
    assert raw.zrange("sandbox:{0}:timetable", 0, -1) == [b"two", b"one"]
    assert store.schedules.remove(read(store))
    assert (store.schedules.read("one"), [found.name for found in store.schedules.all()]) == (None, ["two"])
    assert raw.exists("sandbox:{0}:schedule:one") == 0


def test_nobody_overwrites_or_removes_what_it_has_not_seen(store: Store) -> None:
    put(store)
    seen = read(store)
    changed = put(store, every=7200.0)
    assert not store.schedules.remove(seen)
    assert not store.schedules.replace("one", seen.text, changed, 0)
    assert not store.schedules.replace("one", b"", changed, 0)
    assert read(store).schedule == changed


def test_what_is_paused_is_listed_and_never_due(store: Store) -> None:
    put(store)
    ripen(store)

    def paused(before: Schedule | None, now: int) -> Schedule:
        assert before is not None
        return schedule.paused(before, now=now, by=None)

    store.schedules.change("one", paused)
    assert [found.name for found in store.schedules.all()] == ["one"]
    assert due(store) == (0, [])


def test_nothing_is_asked_where_nothing_is_due(store: Store) -> None:
    put(store)
    assert due(store) == (0, [])
    ripen(store)
    assert [found.name for found in due(store)[1]] == ["one"]


def test_redis_says_what_is_due_also_to_those_whose_clock_is_off(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    put(store)
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + 10**15)
    assert due(store) == (0, [])


def test_the_script_that_creates_the_task_moves_the_schedule_on(store: Store) -> None:
    put(store)
    at = ripen(store)
    now, [found] = due(store)
    assert fire(store, found, now)

    uid = store.schedules.uid("one", at)
    after = read(store).schedule
    assert uids(store) == [uid] and after is not None
    assert (after.fired, after.last and after.last.uid) == (1, uid)
    assert after.next_at == moments.stamp_exactly(at + HOUR)
    assert due(store) == (0, [])
    assert [entry.uid for entry in store.queues.fetch(0, ["default"], "a", 10)] == [uid]


def test_of_many_runners_one_creates_the_task(store: Store) -> None:
    put(store)
    ripen(store)
    now, [found] = due(store)
    assert [fire(store, found, now + place) for place in range(10)].count(True) == 1
    assert len(uids(store)) == 1


def test_an_answer_that_was_lost_is_asked_for_again(store: Store) -> None:
    """A wire repeats a command whose answer did not come: who had done it hears that it is done."""
    put(store)
    ripen(store)
    now, [found] = due(store)
    assert fire(store, found, now)
    assert fire(store, found, now)
    assert len(uids(store)) == 1


def test_a_time_that_has_its_task_already_only_moves_on(store: Store) -> None:
    """As when Redis's clock was set back."""
    put(store)
    at = ripen(store)
    now, [found] = due(store)
    uid = store.schedules.uid("one", at)
    created = moments.stamp(time.time())
    store.create([Task(uid=uid, type="echo", queue="default", status=QUEUED, created_at=created)])
    assert not fire(store, found, now)
    assert due(store) == (0, []) and uids(store) == [uid]
    after = read(store).schedule
    assert after is not None and after.fired == 0, "it was not fired this time"


def test_what_was_edited_meanwhile_is_not_fired(store: Store) -> None:
    put(store)
    ripen(store)
    now, [found] = due(store)
    put(store, every=7200.0)
    assert not fire(store, found, now)
    assert uids(store) == [] and due(store) == (0, [])


def test_what_has_become_of_the_last_task_counts_inside_the_script(store: Store) -> None:
    put(store)
    ripen(store)
    now, [found] = due(store)
    fire(store, found, now)
    [uid] = uids(store)
    cancelled = store.change(uid, lambda task: transitions.cancelled(task, moments.stamp(time.time())))
    assert cancelled is not None and cancelled.task.status == CANCELLED
    ripen(store)
    now, [found] = due(store)
    store.change(uid, transitions.requeued)  # a client retries it

    assert not fire(store, found, now, last=cancelled)
    assert uids(store) == [uid]
    assert fire(store, found, now, last=store.read(uid))


def test_a_finished_last_task_that_has_expired_is_no_hindrance(store: Store, raw: redis.Redis) -> None:
    put(store)
    ripen(store)
    now, [found] = due(store)
    fire(store, found, now)
    [uid] = uids(store)
    task = store.read(uid)
    assert task is not None
    stamp = moments.stamp(time.time())
    store.move([Change(task.text, task.task, transitions.succeeded(task.task, NULL, stamp, stamp, 0.1))])
    raw.delete(uid)
    ripen(store)
    now, [found] = due(store)
    assert fire(store, found, now, last=None)


def test_what_cannot_be_read_stays_and_is_not_in_the_way(store: Store, raw: redis.Redis) -> None:
    put(store)
    ripen(store)
    raw.set("sandbox:{0}:schedule:one", b"nonsense")
    now, [found] = due(store)
    assert found.schedule is None
    store.schedules.put_off(found, now + HOUR)
    assert due(store) == (0, [])
    assert raw.get("sandbox:{0}:schedule:one") == b"nonsense"
    assert store.schedules.remove(found)


def test_a_place_without_a_schedule_is_removed(store: Store, raw: redis.Redis) -> None:
    raw.zadd("sandbox:{0}:timetable", {"gone": 1})
    assert due(store)[1] == [] and store.schedules.all() == []
    assert raw.exists("sandbox:{0}:timetable") == 0


def test_two_that_edit_at_the_same_time_both_get_through(store: Store) -> None:
    put(store)

    def count(before: Schedule | None, now: int) -> Schedule:
        assert before is not None
        after = schedule.decode(schedule.encode(before))
        after.fired, after.revision = before.fired + 1, before.revision + 1
        after.changed_by = threading.current_thread().name
        return after

    threads = [
        threading.Thread(target=lambda: [store.schedules.change("one", count) for _ in range(20)]) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = read(store).schedule
    assert found is not None and found.fired == 60


def test_on_a_cluster_each_schedule_lives_with_its_tasks_in_the_partition_of_its_name(cluster: RedisCluster) -> None:
    store = Store(connect(cluster.url, SCRIPTS), partitions=4)
    try:
        names = [f"s{number}" for number in range(12)]
        for name in names:
            put(store, name)
            ripen(store, name)
        for group in store.groups:
            store.promote(group[0], 10)
        fired = []
        for now, found in store.schedules.due():
            for each in found:
                assert fire(store, each, now)
                fired.append(each.name)
        assert sorted(fired) == sorted(names)
        assert sorted(found.name for found in store.schedules.all()) == sorted(names)
        assert {store.partition(uid) for uid in uids(store)} == {0, 1, 2, 3}
        assert due(store) == (0, [])
    finally:
        store.close()
