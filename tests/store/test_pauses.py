"""Pauses of queues and types, and the lots of what is set aside."""

import time
from collections.abc import Iterator

import pytest
import redis

from service.errors import StoreUnavailable
from service.store import QUEUE, SCRIPTS, TYPE, Change, Entry, Pause, Store
from service.store.connection import Wire, connect
from service.tasks import moments, transitions
from service.tasks.document import HIGH, LOW, PRIORITIES, QUEUED, RUNNING, SCHEDULED, Claim, Task, decode
from service.tasks.uid import random_prefix
from tests.runner.wires import FaultyWire
from tests.servers import RedisCluster, RedisServer, eventually

NOW = "2026-03-01T12:00:00.000000Z"


@pytest.fixture
def raw(server: RedisServer) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client


def stored(
    store: Store, type: str = "echo", queue: str = "default", partition: int | None = None, **fields: str
) -> str:
    created = moments.stamp(time.time())
    uid = store.uid(random_prefix(), partition)
    task = Task(uid=uid, type=type, queue=queue, created_at=created, **({"status": QUEUED} | fields))
    assert store.create([task]) == []
    return task.uid


def pause(store: Store, kind: str, name: str, seconds: float | None = None) -> None:
    now = time.time()
    until = None if seconds is None else moments.stamp(now + seconds)
    store.pauses.pause(kind, name, Pause("why", moments.stamp(now), until, "alice"))


def fetched(store: Store, queues: tuple[str, ...] = ("default",), partition: int = 0, count: int = 10) -> list[Entry]:
    return store.queues.fetch(partition, queues, "a", count)


def uids(entries: list[Entry]) -> list[str]:
    return [entry.uid for entry in entries]


def claim(entry: Entry) -> Change:
    assert entry.text is not None
    task = decode(entry.text)
    return Change(entry.text, task, transitions.claimed(task, Claim("a", "t", entry.stream, entry.id)), entry)


def status(store: Store, uid: str) -> str:
    found = store.read(uid)
    assert found is not None
    return found.task.status


def told(store: Store, *types: str) -> None:
    store.lots.tell(types)


# --- queues --------------------------------------------------------------------------------------


def test_nothing_of_a_paused_queue_is_given_out_until_it_is_resumed(store: Store) -> None:
    uid, other = stored(store), stored(store, queue="other")
    pause(store, QUEUE, "default")
    later = stored(store)  # intake goes on

    assert uids(fetched(store, ("default", "other"))) == [other]

    assert store.pauses.resume(QUEUE, "default")
    assert uids(fetched(store, ("default", "other"))) == [uid, later]


def test_of_a_paused_queue_nothing_is_claimed_and_what_was_fetched_comes_first_again(
    store: Store, raw: redis.Redis
) -> None:
    first, second = stored(store), stored(store)
    [entry] = fetched(store, count=1)
    pause(store, QUEUE, "default")

    moved = store.move([claim(entry)], consumer="a")

    assert (moved.stored, moved.refused, [change.before.uid for change in moved.paused]) == ([], [], [first])
    assert status(store, first) == QUEUED
    assert raw.xpending("sandbox:{0}:queue:default", "runners")["pending"] == 0
    store.pauses.resume(QUEUE, "default")
    assert uids(fetched(store)) == [first, second]


def test_a_claim_that_was_paused_and_comes_again_after_the_pause_claims_nothing(store: Store) -> None:
    """Its entry has gone: a task that names it would be nobody's."""
    uid = stored(store)
    [entry] = fetched(store)
    pause(store, QUEUE, "default")
    store.move([claim(entry)], consumer="a")
    store.pauses.resume(QUEUE, "default")

    assert store.move([claim(entry)], consumer="a").stored == []
    assert uids(fetched(store)) == [uid]


def test_what_runs_in_a_paused_queue_goes_on_and_is_settled(store: Store) -> None:
    uid = stored(store)
    [entry] = fetched(store)
    [(_, document)] = store.move([claim(entry)], consumer="a").stored
    pause(store, QUEUE, "default")

    after = transitions.progressed(document.task, document.task.args)
    [(_, document)] = store.move([Change(document.text, document.task, after, entry)], consumer="a").stored
    back = transitions.handed_back(document.task, ran=True)
    assert store.move([Change(document.text, document.task, back, entry)]).refused == []

    assert status(store, uid) == QUEUED
    assert fetched(store) == []


def test_a_waiting_consumer_is_given_nothing_of_a_queue_that_it_knows_to_be_paused(store: Store) -> None:
    assert fetched(store, ("default", "other")) == []  # this makes the groups
    pause(store, QUEUE, "default")
    assert fetched(store, ("default", "other")) == []
    stored(store)
    other = stored(store, queue="other")

    assert uids(store.queues.wait(0, ("default", "other"), "a", 1, 5.0)) == [other]
    assert store.queues.wait(0, ("default",), "a", 1, 0.05) == []


def test_who_waits_for_a_paused_queue_alone_wakes_when_it_is_resumed(server: RedisServer, store: Store) -> None:
    pause(store, QUEUE, "default")
    assert fetched(store) == []
    uid = stored(store)
    other = Store(connect(server.url, SCRIPTS))
    eventually(lambda: other.pauses.resume(QUEUE, "default") or True)
    assert uids(store.queues.wait(0, ("default",), "a", 1, 5.0)) == [uid]
    other.close()


def test_a_pause_ends_by_itself_by_redis_clock(store: Store) -> None:
    uid = stored(store)
    pause(store, QUEUE, "default", seconds=0.4)
    assert list(store.pauses.now().queues) == ["default"]
    assert fetched(store) == []
    assert eventually(lambda: uids(fetched(store))) == [uid]
    assert store.pauses.now().queues == {}


def test_a_pause_tells_why_since_when_until_when_and_by_whom(store: Store) -> None:
    pause(store, QUEUE, "default", seconds=60)
    pause(store, TYPE, "echo")
    now = store.pauses.now()
    assert (now.queues["default"].reason, now.queues["default"].by) == ("why", "alice")
    assert now.queues["default"].until > now.queues["default"].since  # type: ignore[operator]
    assert (list(now.types), now.types["echo"].until) == (["echo"], None)


# --- types -----------------------------------------------------------------------------------------


def test_a_task_of_a_paused_type_is_set_aside_once_and_comes_back(store: Store, raw: redis.Redis) -> None:
    told(store, "echo", "sleep")
    pause(store, TYPE, "echo")
    uid, other = stored(store), stored(store, type="sleep")

    entries = fetched(store)
    moved = store.move([claim(entry) for entry in entries], consumer="a")

    assert [change.before.uid for change, _ in moved.stored] == [other]
    assert [change.before.uid for change in moved.paused] == [uid]
    assert (status(store, uid), fetched(store)) == (QUEUED, [])
    assert store.lots.unpark() == 0  # the pause is in force
    assert store.backlog(()).get("default", None).depth == 1  # type: ignore[union-attr]

    store.pauses.resume(TYPE, "echo")
    assert store.lots.unpark() == 1
    assert uids(fetched(store)) == [uid]
    assert raw.keys("sandbox:{0}:lot*") == []


def test_a_type_whose_pause_has_ended_by_itself_comes_back_too(store: Store) -> None:
    told(store, "echo")
    uid = stored(store)
    pause(store, TYPE, "echo", seconds=0.3)
    store.move(list(map(claim, fetched(store))), consumer="a")
    assert eventually(store.lots.unpark) == 1
    assert uids(fetched(store)) == [uid]


def test_what_comes_back_is_the_oldest_first_and_keeps_its_queue_and_priority(store: Store) -> None:
    told(store, "echo")
    pause(store, TYPE, "echo")
    made = [stored(store, queue="other", priority=priority) for priority in (LOW, "normal", HIGH) for _ in range(2)]
    store.move(list(map(claim, fetched(store, ("other",)))), consumer="a")
    store.pauses.resume(TYPE, "echo")
    assert store.lots.unpark() == 6
    entries = fetched(store, ("other",))
    assert uids(entries) == [*made[4:], *made[2:4], *made[:2]]
    assert {entry.stream.split(":")[2] for entry in entries} == {"high", "queue", "low"}


def test_a_task_that_stands_in_a_lot_can_be_cancelled_and_leaves_it(store: Store, raw: redis.Redis) -> None:
    told(store, "echo")
    pause(store, TYPE, "echo")
    uid = stored(store)
    store.move(list(map(claim, fetched(store))), consumer="a")
    assert raw.zcard("sandbox:{0}:lot:echo:default:normal") == 1
    store.change(uid, lambda task: transitions.cancelled(task, NOW))
    assert raw.zcard("sandbox:{0}:lot:echo:default:normal") == 0


def test_a_taken_over_task_of_a_paused_type_goes_on(store: Store) -> None:
    """It was running: whoever takes it over claims it anew."""
    uid = stored(store)
    [entry] = fetched(store)
    [(_, document)] = store.move([claim(entry)], consumer="a").stored
    pause(store, TYPE, "echo")
    [taken] = store.queues.take(entry.stream, 0, "b", dead="a", idle_ms=0, count=1)
    after = transitions.claimed(document.task, Claim("b", "u", taken.stream, taken.id))
    assert len(store.move([Change(document.text, document.task, after, taken)], consumer="b").stored) == 1
    assert status(store, uid) == RUNNING


# --- types that no runner knows --------------------------------------------------------------------


@pytest.fixture
def forgetful(server: RedisServer) -> Iterator[Store]:
    """A type is known for so short a time that its own telling has run out when it is looked at."""
    store = Store(connect(server.url, SCRIPTS), known_seconds=0.0)
    yield store
    store.close()


def parked(store: Store, entries: list[Entry]) -> list[Entry]:
    """Returns those that stay."""
    return store.lots.park("a", [(entry, decode(entry.text or b"")) for entry in entries])


def set_aside(forgetful: Store, type: str, queue: str) -> str:
    """A new task of a type that no runner knows."""
    uid = stored(forgetful, type, queue)
    entries = fetched(forgetful, (queue,))
    eventually(lambda: parked(forgetful, entries) == [])
    return uid


def test_what_no_runner_has_known_for_a_while_is_parked_and_shown_as_stuck(store: Store, forgetful: Store) -> None:
    told(store, "echo")
    uid = stored(store)
    entries = fetched(store)
    assert parked(store, entries) == entries  # somebody may know it

    assert eventually(lambda: parked(forgetful, entries) == [])
    assert (status(store, uid), fetched(store)) == (QUEUED, [])
    [lot] = forgetful.lots.now()
    assert (lot.type, lot.queue, lot.tasks) == ("echo", "default", 1)
    assert lot.unknown_since is not None and store.lots.now()[0].unknown_since is None
    assert forgetful.lots.unpark() == 0

    told(store, "echo")
    assert store.lots.unpark() == 1
    assert uids(fetched(store)) == [uid]


def test_a_type_of_which_nobody_has_told_yet_counts_as_known_from_then_on(store: Store, forgetful: Store) -> None:
    stored(store)
    entries = fetched(store)
    assert parked(forgetful, entries) == entries
    assert eventually(lambda: parked(forgetful, entries) == [])


def test_an_entry_that_another_consumer_holds_is_not_parked(store: Store, forgetful: Store) -> None:
    told(store, "echo")
    stored(store)
    [entry] = fetched(store)
    store.queues.take(entry.stream, 0, "b", dead="a", idle_ms=0, count=1)
    eventually(lambda: forgetful.lots._may_park(0, "echo"))
    assert parked(forgetful, [entry]) == [entry]
    assert forgetful.lots.now() == []


# --- priorities ------------------------------------------------------------------------------------


def test_each_priority_waits_in_a_line_of_its_own_and_the_backlog_counts_all(store: Store) -> None:
    made = {priority: stored(store, priority=priority) for priority in reversed(PRIORITIES)}
    assert uids(fetched(store)) == [made[priority] for priority in PRIORITIES]
    assert store.backlog(())["default"].depth == 3


def test_a_priority_stays_over_a_retry_and_a_promotion(store: Store) -> None:
    retried = stored(store, priority=LOW)
    due = stored(store, priority=HIGH, status=SCHEDULED, run_at=NOW)
    [entry] = fetched(store)
    store.change(retried, lambda task: transitions.cancelled(task, NOW))
    store.queues.drop("a", store.read_again([entry]))
    store.change(retried, transitions.requeued)
    assert store.promote(0, 10) == 1
    assert [(entry.uid, entry.stream.split(":")[2]) for entry in fetched(store)] == [(due, "high"), (retried, "low")]


# --- several partitions ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["one server", "cluster"])
def test_a_pause_holds_in_every_partition(server: RedisServer, cluster: RedisCluster, kind: str) -> None:
    wire: Wire = connect(server.url if kind == "one server" else cluster.url, SCRIPTS)
    store = Store(wire, partitions=4)
    told(store, "echo", "sleep")
    pause(store, QUEUE, "default")
    pause(store, TYPE, "sleep")
    made = [stored(store, partition=partition) for partition in range(4)]
    others = [stored(store, queue="other", type="sleep", partition=partition) for partition in range(4)]

    queues = ("default", "other")
    entries = [entry for group in store.groups for entry in fetched(store, queues, group[0])]
    assert sorted(uids(entries)) == sorted(others)
    moved = store.move(list(map(claim, entries)), consumer="a")
    assert (moved.stored, len(moved.paused)) == ([], 4)
    [lot] = store.lots.now()
    assert (lot.type, lot.queue, lot.tasks) == ("sleep", "other", 4)

    store.pauses.resume(QUEUE, "default")
    store.pauses.resume(TYPE, "sleep")
    assert store.lots.unpark() == 4
    entries = [entry for group in store.groups for entry in fetched(store, queues, group[0])]
    assert sorted(uids(entries)) == sorted(made + others)
    store.close()


def test_a_pause_and_its_end_reach_all_partitions_that_answer(cluster: RedisCluster) -> None:
    wire = FaultyWire(cluster.url)
    store = Store(wire, partitions=4)
    wire.away = 1
    others = {partition: stored(store, partition=partition) for partition in (0, 2, 3)}
    with pytest.raises(StoreUnavailable):
        pause(store, QUEUE, "default")
    assert [fetched(store, partition=partition) for partition in others] == [[], [], []]
    with pytest.raises(StoreUnavailable):
        store.pauses.resume(QUEUE, "default")
    assert [uids(fetched(store, partition=partition)) for partition in others] == [[uid] for uid in others.values()]
    store.close()
