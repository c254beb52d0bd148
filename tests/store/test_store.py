"""Each method of the store, on every kind of Redis that there is here."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
import redis

from service.errors import InvalidTransition, StoreUnavailable
from service.store import GROUP, SCRIPTS, Change, Document, Entry, Filter, Position, Store
from service.store import index as the_index
from service.store.connection import Command, Wire, connect
from service.tasks import moments, transitions
from service.tasks.document import (
    CANCELLED,
    HIGH,
    LOW,
    NORMAL,
    NULL,
    QUEUED,
    SCHEDULED,
    SUCCEEDED,
    Claim,
    Task,
    TaskError,
    decode,
    encode,
)
from service.tasks.uid import SLOTS, random_prefix, slot, steer
from tests.servers import RedisServer, eventually

QUEUES = ("default",)
SEVERAL = ("type", "queue", "status")
QUEUES_OF_TWO = ("urgent", "default")
STREAM = "sandbox:{0}:queue:default"
RETURNED = "sandbox:{0}:returned:default"
NOW = "2026-03-01T12:00:00.000000Z"


@pytest.fixture
def raw(server: RedisServer) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client


def new(store: Store, *, at: str | None = None, **fields: Any) -> Task:
    created = at or moments.stamp(time.time())
    known = {"uid": store.uid(random_prefix()), "type": "echo", "queue": "default", "status": QUEUED}
    return Task(**(known | {"created_at": created} | fields))


def stored(store: Store, **fields: Any) -> Task:
    task = new(store, **fields)
    assert store.create([task]) == []
    return task


def finished(store: Store, status: str = CANCELLED, **fields: Any) -> Task:
    task = stored(store, **fields)
    changed = store.change(task.uid, lambda task: transitions.cancelled(task, NOW))
    assert changed is not None
    return changed.task


def claim_of(entry: Entry, consumer: str, token: str = "t") -> Change:
    assert entry.text is not None
    task = decode(entry.text)
    claim = Claim(consumer, token, entry.stream, entry.id)
    return Change(entry.text, task, transitions.claimed(task, claim), entry)


def claimed(store: Store, entry: Entry, consumer: str = "a") -> Document:
    change = claim_of(entry, consumer)
    [(_, document)] = store.move([change], consumer=consumer).stored
    return document


def success_of(document: Document, entry: Entry) -> Change:
    after = transitions.succeeded(document.task, NULL, NOW, NOW, 0.0)
    return Change(document.text, document.task, after, entry)


def filter_of(**only: str) -> Filter:
    """Types, queues and statuses each by itself."""
    return Filter(**{name: (value,) if name in SEVERAL else value for name, value in only.items()})


def listed(store: Store, limit: int = 100, **only: str) -> list[str]:
    page, _ = store.index.page(limit=limit, only=filter_of(**only))
    return [task.uid for task in page]


def held_by(raw: redis.Redis, consumer: str, stream: str = STREAM) -> list[str]:
    pending = raw.xpending_range(stream, GROUP, "-", "+", 100, consumername=consumer)
    return [entry["message_id"].decode() for entry in pending]


def due_in(raw: redis.Redis, uid: str) -> float:
    """In so many seconds, by Redis's clock."""
    seconds, microseconds = raw.time()
    score = raw.zscore("sandbox:{0}:due", uid)
    assert score is not None
    return score / 1e6 - seconds - microseconds / 1e6


class Between(Wire):
    """The real wire, with something done before its n-th call."""

    def __init__(self, wire: Wire, number: int, do: Callable[[], object]) -> None:
        self._wire = wire
        self._left = number
        self._do = do

    def call(self, partition: int, *commands: Command, wait_seconds: float = 0, once: bool = False) -> list[Any]:
        self._left -= 1
        if self._left == 0:
            self._do()
        return self._wire.call(partition, *commands, wait_seconds=wait_seconds, once=once)

    def close(self) -> None:
        self._wire.close()


def interrupted(server: RedisServer, number: int, do: Callable[[], object]) -> Store:
    return Store(Between(connect(server.url, SCRIPTS), number, do))


# --- create --------------------------------------------------------------------------------------


def test_a_new_task_is_stored_listed_and_waits(store: Store, raw: redis.Redis) -> None:
    task = stored(store)

    assert store.read(task.uid) == Document(task, encode(task))
    assert listed(store) == [task.uid]
    assert [fields for _, fields in raw.xrange(STREAM)] == [{b"uid": task.uid.encode()}]


def test_a_scheduled_task_stands_in_the_due_set_and_not_in_the_queue(store: Store, raw: redis.Redis) -> None:
    run_at = moments.stamp(time.time() + 60)
    task = stored(store, status=SCHEDULED, run_at=run_at)

    assert due_in(raw, task.uid) == pytest.approx(60, abs=10)
    assert not raw.exists(STREAM)


def test_what_is_there_already_is_answered_as_it_is_now_and_nothing_changes(store: Store, raw: redis.Redis) -> None:
    task = stored(store)
    changed = store.change(task.uid, lambda task: transitions.cancelled(task, NOW))

    assert store.create([task]) == [changed]
    assert store.read(task.uid) == changed
    assert raw.xlen(STREAM) == 1


def test_a_batch_is_stored_whole_or_not_at_all(store: Store, raw: redis.Redis) -> None:
    known = stored(store)
    others = [new(store) for _ in range(999)]

    present = store.create([*others, known])

    assert present == [None] * 999 + [Document(known, encode(known))]
    assert raw.xlen(STREAM) == 1
    assert listed(store) == [known.uid]

    assert store.create(others) == []
    assert raw.xlen(STREAM) == 1000


def test_a_uid_lies_in_the_partition_of_its_prefix(server: RedisServer) -> None:
    store = Store(connect(server.url, SCRIPTS), partitions=4)
    uids = [store.uid(random_prefix()) for _ in range(100)]

    assert {store.partition(uid) for uid in uids} == {0, 1, 2, 3}
    for uid in uids:
        assert store.uid(uid[:59]) == uid
        assert slot(uid.encode()) == slot(str(store.partition(uid)).encode())
    store.close()


def test_many_are_read_in_the_order_asked_for(store: Store) -> None:
    first, second = stored(store), stored(store)
    unknown = store.uid(random_prefix())

    texts = store.texts([second.uid, unknown, first.uid, "not a UID"])

    assert texts == [encode(second), None, encode(first), None]


# --- change --------------------------------------------------------------------------------------


def test_what_is_asked_for_many_times_is_read_once(store: Store, raw: redis.Redis) -> None:
    task = stored(store, args=msgspec.Raw(b'{"x":"%s"}' % (b"x" * 100_000)))
    before = raw.info("stats")["total_net_output_bytes"]
    texts = store.texts([task.uid] * 100)
    assert texts == [encode(task)] * 100
    assert raw.info("stats")["total_net_output_bytes"] - before < 200_000


def test_a_change_moves_the_task_to_its_new_shelf(store: Store, raw: redis.Redis) -> None:
    task = stored(store)
    store.change(task.uid, lambda task: transitions.cancelled(task, NOW))

    assert raw.zrange("sandbox:{0}:shelf:echo:default:queued", 0, -1) == []
    assert raw.zrange("sandbox:{0}:shelf:echo:default:cancelled", 0, -1) == [task.uid.encode()]
    assert b"echo:default:cancelled" in raw.smembers("sandbox:{0}:shelves")


def test_a_finished_task_expires_and_a_retried_one_does_not(server: RedisServer, raw: redis.Redis) -> None:
    store = Store(connect(server.url, SCRIPTS), retention_seconds=100)
    task = finished(store)
    assert 99_000 < raw.pttl(task.uid) <= 100_000

    store.change(task.uid, transitions.requeued)

    assert raw.pttl(task.uid) == -1
    assert raw.xlen(STREAM) == 2
    store.close()


def test_a_cancelled_task_leaves_the_due_set(store: Store, raw: redis.Redis) -> None:
    task = stored(store, status=SCHEDULED, run_at=NOW)
    store.change(task.uid, lambda task: transitions.cancelled(task, NOW))
    assert not raw.exists("sandbox:{0}:due")


def test_a_scheduled_task_that_is_scheduled_anew_stays_in_the_due_set(store: Store, raw: redis.Redis) -> None:
    task = stored(store, status=SCHEDULED, run_at=NOW)
    later = "2027-01-01T00:00:00.000000Z"

    store.change(task.uid, lambda task: transitions.postponed(task, later))

    assert due_in(raw, task.uid) == pytest.approx(moments.microseconds(later) / 1e6 - time.time(), abs=10)


def test_a_change_is_made_again_when_somebody_was_quicker(server: RedisServer, store: Store) -> None:
    task = stored(store)
    slow = interrupted(server, 2, lambda: claimed(store, store.queues.fetch(0, QUEUES, "a", 1)[0]))

    changed = slow.change(task.uid, lambda task: transitions.cancelled(task, NOW))

    assert changed is not None
    assert (changed.task.status, changed.task.revision, changed.task.attempt) == (CANCELLED, 3, 1)
    slow.close()


def test_a_change_that_is_not_allowed_changes_nothing(store: Store) -> None:
    task = finished(store)
    before = store.texts([task.uid])

    with pytest.raises(InvalidTransition, match="already been cancelled"):
        store.change(task.uid, lambda task: transitions.cancelled(task, NOW))

    assert store.texts([task.uid]) == before


def test_nothing_is_changed_where_there_is_no_task(store: Store) -> None:
    assert store.change(store.uid(random_prefix()), transitions.requeued) is None


def test_a_task_of_nobody_is_refused(store: Store) -> None:
    elsewhere = steer(random_prefix(), (slot(b"0") + 1) % SLOTS)
    with pytest.raises(ValueError, match="no partition"):
        store.create([new(store, uid=elsewhere)])


# --- fetch, claim, settle ------------------------------------------------------------------------


def test_fetched_entries_come_with_their_documents_oldest_first(store: Store, raw: redis.Redis) -> None:
    waiting = [stored(store) for _ in range(3)]

    entries = store.queues.fetch(0, QUEUES, "a", 2)

    assert [entry.uid for entry in entries] == [task.uid for task in waiting[:2]]
    assert [entry.text for entry in entries] == [encode(task) for task in waiting[:2]]
    assert held_by(raw, "a") == [entry.id for entry in entries]


def test_queues_are_served_in_their_order_and_what_came_back_first(store: Store) -> None:
    back, front = stored(store), stored(store)
    urgent = stored(store, queue="urgent")
    [entry] = store.queues.fetch(0, QUEUES, "a", 1)
    document = claimed(store, entry)
    after = transitions.handed_back(document.task, ran=False)
    store.move([Change(document.text, document.task, after, entry)])

    found = store.queues.fetch(0, ("urgent", "default"), "a", 10)

    assert [entry.uid for entry in found] == [urgent.uid, back.uid, front.uid]


def test_a_fetch_takes_no_more_than_asked_from_all_streams_together(store: Store) -> None:
    for queue in ("default", "urgent"):
        for _ in range(3):
            stored(store, queue=queue)

    assert [decode(entry.text or b"").queue for entry in store.queues.fetch(0, ("urgent", "default"), "a", 4)] == [
        *["urgent"] * 3,
        "default",
    ]


def test_a_claim_keeps_the_entry_and_a_settlement_removes_it(store: Store, raw: redis.Redis) -> None:
    stored(store)
    [entry] = store.queues.fetch(0, QUEUES, "a", 1)
    document = claimed(store, entry)
    assert held_by(raw, "a") == [entry.id]

    assert store.move([success_of(document, entry)]).refused == []

    assert held_by(raw, "a") == []
    assert raw.xlen(STREAM) == 0
    assert raw.pttl(entry.uid) > 0


def test_a_batch_takes_two_round_trips_one_to_claim_and_one_to_settle_and_fetch(
    server: RedisServer, store: Store
) -> None:
    for _ in range(65):
        stored(store)
    calls: list[int] = []
    counting = Store(_Counting(connect(server.url, SCRIPTS), calls))

    entries = counting.queues.fetch(0, QUEUES, "a", 64)
    changes = [claim_of(entry, "a", str(number)) for number, entry in enumerate(entries)]
    claims = counting.move(changes, consumer="a").stored
    done = [success_of(document, entry) for (_, document), entry in zip(claims, entries, strict=True)]
    settled, [following] = counting.move_and_fetch(done, 0, QUEUES, "a", 64)

    assert not settled.refused and following.uid not in {entry.uid for entry in entries}
    assert calls == [1, 1, 2]
    assert len(listed(store, status=SUCCEEDED)) == 64
    counting.close()


class _Counting(Wire):
    def __init__(self, wire: Wire, calls: list[int]) -> None:
        self._wire = wire
        self._calls = calls

    def call(self, partition: int, *commands: Command, wait_seconds: float = 0, once: bool = False) -> list[Any]:
        self._calls.append(len(commands))
        return self._wire.call(partition, *commands, wait_seconds=wait_seconds, once=once)

    def close(self) -> None:
        self._wire.close()


def test_a_batch_of_different_changes_refuses_each_for_itself(store: Store) -> None:
    for queue in ("default", "urgent"):
        for _ in range(3):
            stored(store, queue=queue)
    entries = store.queues.fetch(0, ("urgent", "default"), "a", 6)
    store.change(entries[1].uid, lambda task: transitions.cancelled(task, NOW))
    store.change(entries[4].uid, lambda task: transitions.cancelled(task, NOW))

    moved = store.move([claim_of(entry, "a") for entry in entries], consumer="a")

    assert [change.entry for change in moved.refused] == [entries[1], entries[4]]
    assert [change.entry for change, _ in moved.stored] == [entries[place] for place in (0, 2, 3, 5)]
    uids = [change.before.uid for change, _ in moved.stored]
    assert store.read_many(uids) == [document for _, document in moved.stored]


def test_a_batch_of_a_thousand_moves_at_once(store: Store, raw: redis.Redis) -> None:
    store.create([new(store, status=SCHEDULED, run_at=NOW) for _ in range(1000)])
    assert store.promote(0, 1000) == 1000
    assert raw.xlen(STREAM) == 1000


class _Weighing(Wire):
    """The real wire; notes how much goes to and fro at once."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self.heaviest = 0

    def call(self, partition: int, *commands: Command, wait_seconds: float = 0, once: bool = False) -> list[Any]:
        answers = self._wire.call(partition, *commands, wait_seconds=wait_seconds, once=once)
        self.heaviest = max(self.heaviest, sum(map(_weight, commands)), sum(map(_weight, answers)))
        return answers

    def close(self) -> None:
        self._wire.close()


def _weight(words: Any) -> int:
    return sum(len(word) for word in words if isinstance(word, bytes | str)) if isinstance(words, list | tuple) else 0


def test_large_documents_move_in_portions_that_a_slow_network_carries(server: RedisServer) -> None:
    wire = _Weighing(connect(server.url, SCRIPTS))
    store = Store(wire)
    large = msgspec.Raw(b'{"message":"%s"}' % (b"x" * 200_000))
    for _ in range(64):
        stored(store, status=SCHEDULED, run_at=NOW, args=large)

    promoted = [store.promote(0, 500) for _ in range(8)]
    assert (sum(promoted), promoted[0]) == (64, 11)
    assert wire.heaviest < 5_000_000

    entries = store.queues.fetch(0, QUEUES, "a", 64)
    wire.heaviest = 0
    claims = [claim_of(entry, "a") for entry in entries]
    moved = store.move(claims, consumer="a")
    assert not moved.refused
    assert 1_000_000 < wire.heaviest < 5_000_000

    wire.heaviest = 0
    results = [success_of(document, entry) for (_, document), entry in zip(moved.stored, entries, strict=True)]
    assert not store.move_and_fetch(results, 0, QUEUES, "a", 64)[0].refused
    assert 1_000_000 < wire.heaviest < 5_000_000
    store.close()


def test_one_that_is_larger_than_a_portion_moves_too(store: Store) -> None:
    huge = msgspec.Raw(b'{"message":"%s"}' % (b"x" * 3_000_000))
    for _ in range(2):
        stored(store, status=SCHEDULED, run_at=NOW, args=huge)
    assert [store.promote(0, 500) for _ in range(3)] == [1, 1, 0]


def test_two_entries_of_one_document_in_one_batch_give_one_claim(store: Store, raw: redis.Redis) -> None:
    task = finished(store)
    store.change(task.uid, transitions.requeued)
    first, second = store.queues.fetch(0, QUEUES, "a", 2)
    assert first.uid == second.uid == task.uid

    one, other = claim_of(first, "a", "1"), claim_of(second, "a", "2")
    moved = store.move([one, other], consumer="a")

    assert moved.refused == [other]
    assert [(one, store.read(task.uid))] == moved.stored
    assert len(raw.zrange("sandbox:{0}:shelf:echo:default:running", 0, -1)) == 1


def test_who_has_not_seen_the_last_change_changes_nothing(store: Store, raw: redis.Redis) -> None:
    stored(store)
    [entry] = store.queues.fetch(0, QUEUES, "a", 1)
    document = claimed(store, entry)
    cancelled = store.change(entry.uid, lambda task: transitions.cancelled(task, NOW))

    assert store.move([success_of(document, entry)]).stored == []

    assert store.read(entry.uid) == cancelled
    assert held_by(raw, "a") == [entry.id]


@pytest.fixture
def full(server: RedisServer, raw: redis.Redis) -> Iterator[Callable[[], None]]:
    """Fills Redis: it has no memory left from then on."""
    yield lambda: raw.config_set("maxmemory", 1)
    raw.config_set("maxmemory", 0)


def test_on_a_full_redis_tasks_can_be_cancelled_and_purged(
    store: Store, raw: redis.Redis, full: Callable[[], None]
) -> None:
    tasks = [stored(store), stored(store, status=SCHEDULED, run_at=NOW)]
    full()
    with pytest.raises(StoreUnavailable, match="out of memory"):
        stored(store)
    for task in tasks:
        cancelled = store.change(task.uid, lambda task: transitions.cancelled(task, NOW))
        assert cancelled is not None and cancelled.task.status == CANCELLED
        assert raw.pttl(task.uid) > 0
        assert store.purge(task.uid) == cancelled
    assert listed(store) == []
    assert not raw.exists("sandbox:{0}:due", *[task.uid for task in tasks])


# --- the number of takes: when a claim need not look its entry up ------------------------------------


def test_a_claim_is_refused_when_the_entry_was_taken_meanwhile(store: Store, raw: redis.Redis) -> None:
    stored(store)
    [entry] = store.queues.fetch(0, QUEUES, "a", 1)
    [taken] = store.queues.take(STREAM, 0, "b", idle_ms=0, count=10)

    assert store.move([claim_of(entry, "a")], consumer="a").stored == []
    assert store.texts([entry.uid]) == [entry.text]

    claimed(store, taken, "b")
    assert held_by(raw, "b") == [entry.id]


def test_a_claim_is_refused_when_the_entry_was_taken_and_taken_on(store: Store) -> None:
    stored(store)
    [entry] = store.queues.fetch(0, QUEUES, "a", 1)
    [taken] = store.queues.take(STREAM, 0, "b", idle_ms=0, count=10)
    [again] = store.queues.take(STREAM, 0, "c", dead="b", idle_ms=0, count=10)

    assert store.move([claim_of(entry, "a")], consumer="a").stored == []
    assert store.move([claim_of(taken, "b")], consumer="b").stored == []
    claimed(store, again, "c")


def test_what_was_taken_back_may_be_claimed(store: Store) -> None:
    stored(store)
    [entry] = store.queues.fetch(0, QUEUES, "a", 1)
    store.queues.take(STREAM, 0, "b", idle_ms=0, count=10)
    store.queues.take(STREAM, 0, "a", dead="b", idle_ms=0, count=10)
    claimed(store, entry, "a")


def test_only_the_entries_that_were_taken_are_refused(store: Store, raw: redis.Redis) -> None:
    for _ in range(4):
        stored(store)
    entries = store.queues.fetch(0, QUEUES, "a", 4)
    store.queues.take(STREAM, 0, "b", idle_ms=0, count=2)

    backwards = [claim_of(entry, "a") for entry in reversed(entries)]
    moved = store.move(backwards, consumer="a")

    assert (moved.refused, [change for change, _ in moved.stored]) == (backwards[2:], backwards[:2])
    assert held_by(raw, "a") == [entry.id for entry in entries[2:]]


def test_a_claim_is_refused_when_the_entry_is_gone(store: Store) -> None:
    stored(store)
    [entry] = store.queues.fetch(0, QUEUES, "a", 1)
    [taken] = store.queues.take(STREAM, 0, "b", idle_ms=0, count=10)
    store.queues.drop("b", [taken])
    assert store.move([claim_of(entry, "a")], consumer="a").stored == []


def test_a_waited_for_entry_is_looked_up(store: Store, raw: redis.Redis) -> None:
    assert store.queues.fetch(0, QUEUES, "a", 1) == []
    stored(store)
    [entry] = store.read_again(store.queues.wait(0, QUEUES, "a", 1, 1.0))
    raw.xclaim(STREAM, GROUP, "b", 0, [entry.id])

    assert store.move([claim_of(entry, "a")], consumer="a").stored == []

    raw.xclaim(STREAM, GROUP, "a", 0, [entry.id])
    claimed(store, entry, "a")


def test_news_of_a_task_whose_entry_was_taken_is_refused(store: Store) -> None:
    stored(store)
    [entry] = store.queues.fetch(0, QUEUES, "a", 1)
    document = claimed(store, entry)
    change = Change(document.text, document.task, transitions.started(document.task, NOW), entry)
    store.queues.take(STREAM, 0, "b", idle_ms=0, count=10)

    assert store.move([change], consumer="a").stored == []
    assert store.texts([entry.uid]) == [document.text]


# --- wait ----------------------------------------------------------------------------------------


def test_waiting_ends_with_a_task(server: RedisServer, store: Store) -> None:
    store.queues.fetch(0, QUEUES, "a", 1)
    found: list[Entry] = []
    waiting = threading.Thread(target=lambda: found.extend(store.queues.wait(0, QUEUES, "a", 1, 10.0)))
    waiting.start()
    with server.client() as raw:
        eventually(lambda: raw.info("clients")["blocked_clients"])

    task = stored(store)

    waiting.join(2)
    assert [(entry.uid, entry.text) for entry in store.read_again(found)] == [(task.uid, encode(task))]


def test_waiting_ends_without_one(store: Store) -> None:
    store.queues.fetch(0, QUEUES, "a", 1)
    assert store.queues.wait(0, QUEUES, "a", 1, 0.01) == []


def test_whoever_waits_while_all_data_is_lost_goes_on(server: RedisServer, store: Store, raw: redis.Redis) -> None:
    store.queues.fetch(0, QUEUES, "a", 1)
    ends: list[object] = []

    def wait() -> None:
        ends.append(store.queues.wait(0, QUEUES, "a", 1, 10.0))

    waiting = threading.Thread(target=wait)
    waiting.start()
    eventually(lambda: raw.info("clients")["blocked_clients"])
    raw.flushall()
    waiting.join(12)
    assert ends == [[]]


def test_streams_that_are_gone_hold_nothing_and_come_back(store: Store, raw: redis.Redis) -> None:
    stored(store)
    [entry] = store.queues.fetch(0, QUEUES, "a", 1)
    raw.flushall()

    assert store.queues.renew(0, "a", [entry]) == set()
    assert store.queues.take(STREAM, 0, "a", idle_ms=0, count=1) == []
    assert store.queues.consumers(0, QUEUES) == {}
    assert store.queues.retire(0, QUEUES, "a") is True
    assert store.queues.wait(0, QUEUES, "a", 1, 0.01) == []
    assert store.move([claim_of(entry, "a")], consumer="a").stored == []
    store.queues.drop("a", [entry])
    assert store.queues.pending(STREAM, 0, "a") == []

    task = stored(store)
    assert [entry.uid for entry in store.queues.fetch(0, QUEUES, "a", 1)] == [task.uid]


def test_a_task_that_came_before_the_first_runner_is_found(store: Store) -> None:
    task = stored(store)
    assert [entry.uid for entry in store.queues.fetch(0, QUEUES, "a", 1)] == [task.uid]


# --- take over, renew, drop, retire ------------------------------------------------------------------


def test_a_dead_consumers_entries_are_taken_at_once_and_nobody_elses(store: Store, raw: redis.Redis) -> None:
    for _ in range(3):
        stored(store)
    [dead] = store.queues.fetch(0, QUEUES, "dead", 1)
    [busy] = store.queues.fetch(0, QUEUES, "busy", 1)

    [taken] = store.queues.take(STREAM, 0, "b", dead="dead", idle_ms=0, count=10)

    assert (taken.id, taken.uid, taken.text, taken.owner) == (dead.id, dead.uid, dead.text, "dead")
    assert held_by(raw, "busy") == [busy.id]


def test_only_what_is_idle_for_long_enough_is_taken(store: Store) -> None:
    stored(store)
    [entry] = store.queues.fetch(0, QUEUES, "a", 1)

    assert store.queues.take(STREAM, 0, "b", idle_ms=60_000, count=10) == []

    taken = eventually(lambda: store.queues.take(STREAM, 0, "b", idle_ms=30, count=10))
    assert [(found.id, found.owner) for found in taken] == [(entry.id, "a")]


def test_of_two_takers_one_gets_the_entry(store: Store) -> None:
    stored(store)
    store.queues.fetch(0, QUEUES, "dead", 1)
    assert len(store.queues.take(STREAM, 0, "b", dead="dead", idle_ms=0, count=10)) == 1
    assert store.queues.take(STREAM, 0, "c", dead="dead", idle_ms=0, count=10) == []


def test_a_take_shows_the_document_as_it_is_now(store: Store) -> None:
    stored(store)
    [entry] = store.queues.fetch(0, QUEUES, "a", 1)
    document = claimed(store, entry)
    [taken] = store.queues.take(STREAM, 0, "b", dead="a", idle_ms=0, count=10)
    assert taken.text == document.text


def test_a_lease_is_renewed_only_for_whoever_holds_the_entry(store: Store, raw: redis.Redis) -> None:
    stored(store)
    stored(store)
    mine, lost = store.queues.fetch(0, QUEUES, "a", 2)
    raw.xclaim(STREAM, GROUP, "b", 0, [lost.id])
    raw.xclaim(STREAM, GROUP, "a", 0, [mine.id], idle=60_000, justid=True)

    assert store.queues.renew(0, "a", [mine, lost]) == {mine}

    [pending] = raw.xpending_range(STREAM, GROUP, "-", "+", 10, consumername="a")
    assert pending["time_since_delivered"] < 60_000
    assert held_by(raw, "b") == [lost.id]


def test_what_a_consumer_holds_is_listed(store: Store) -> None:
    stored(store), stored(store), stored(store)
    mine = store.queues.fetch(0, QUEUES, "a", 2)
    store.queues.fetch(0, QUEUES, "b", 1)
    found = store.queues.pending(STREAM, 0, "a")
    assert [(entry.id, entry.uid, entry.owner) for entry in found] == [(entry.id, entry.uid, "a") for entry in mine]
    assert store.queues.pending(STREAM, 0, "c") == []


def test_a_stale_entry_is_dropped(store: Store, raw: redis.Redis) -> None:
    task = finished(store)
    [entry] = store.queues.fetch(0, QUEUES, "a", 1)
    assert store.queues.drop("a", [entry]) == []
    assert (raw.xlen(STREAM), held_by(raw, "a")) == (0, [])
    assert store.read(task.uid) is not None


def test_an_entry_stays_when_its_document_has_changed_since(store: Store, raw: redis.Redis) -> None:
    task = finished(store)
    [entry] = store.queues.fetch(0, QUEUES, "a", 1)
    store.change(task.uid, transitions.requeued)
    assert store.queues.drop("a", [entry]) == [entry]
    assert held_by(raw, "a") == [entry.id]


def test_an_entry_of_another_consumer_is_not_dropped(store: Store, raw: redis.Redis) -> None:
    finished(store)
    [entry] = store.queues.fetch(0, QUEUES, "a", 1)
    store.queues.take(STREAM, 0, "b", idle_ms=0, count=1)
    assert store.queues.drop("a", [entry]) == [entry]
    assert held_by(raw, "b") == [entry.id]


def test_an_entry_without_a_document_is_dropped(store: Store, raw: redis.Redis) -> None:
    task = stored(store)
    raw.delete(task.uid)
    [entry] = store.queues.fetch(0, QUEUES, "a", 1)
    assert entry.text is None
    store.queues.drop("a", [entry])
    assert raw.xlen(STREAM) == 0


def test_a_consumer_is_forgotten_only_when_it_holds_nothing(store: Store) -> None:
    stored(store)
    [entry] = store.queues.fetch(0, QUEUES, "a", 1)
    assert store.queues.retire(0, QUEUES, "a") is False
    assert store.queues.consumers(0, QUEUES) == {"a": 1}

    store.move([success_of(claimed(store, entry), entry)])

    assert store.queues.retire(0, QUEUES, "a") is True
    assert store.queues.consumers(0, QUEUES) == {}


def test_consumers_are_counted_over_all_streams(store: Store) -> None:
    for queue in ("default", "urgent", "urgent"):
        stored(store, queue=queue)
    store.queues.fetch(0, ("default", "urgent"), "a", 3)
    assert store.queues.consumers(0, ("default", "urgent")) == {"a": 3}


def test_only_consumers_that_hold_nothing_and_are_silent_are_forgotten(store: Store, raw: redis.Redis) -> None:
    stored(store)
    store.queues.fetch(0, QUEUES, "holds", 1)
    for stream in (STREAM, RETURNED):
        raw.xgroup_createconsumer(stream, GROUP, "lost")
    raw.xgroup_createconsumer(RETURNED, GROUP, "lives")
    eventually(lambda: _idle_ms(raw, "lost", RETURNED) > 50)
    raw.xgroup_createconsumer(STREAM, GROUP, "lives")

    store.queues.retire_silent(0, QUEUES, idle_ms=50)

    assert store.queues.consumers(0, QUEUES) == {"holds": 1, "lives": 0}


def _idle_ms(raw: redis.Redis, consumer: str, stream: str) -> int:
    consumers = {found["name"].decode(): found for found in raw.xinfo_consumers(stream, GROUP)}
    return int(consumers[consumer]["idle"])


# --- promote -------------------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_pause_is_as_long_as_it_was_meant_by_the_clock_of_redis(
    store: Store, raw: redis.Redis, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + hours * 3_600_000_000_000)
    monkeypatch.setattr(time, "time", lambda: time.time_ns() / 1e9)
    delayed = stored(store, status=SCHEDULED, run_at=moments.stamp(time.time() + 60))
    stored(store)
    [entry] = store.queues.fetch(0, QUEUES, "a", 1)
    document = claimed(store, entry)
    run_at = moments.stamp(time.time() + 60)
    after = transitions.retried(document.task, TaskError("E", "m"), NOW, 0.0, run_at)
    [(_, retried)] = store.move([Change(document.text, document.task, after, entry)]).stored
    for uid in (delayed.uid, retried.task.uid):
        assert due_in(raw, uid) == pytest.approx(60, abs=10)


def test_what_is_due_by_the_clock_of_redis_is_queued(store: Store, raw: redis.Redis) -> None:
    seconds, micro = raw.time()
    now = seconds + micro / 1e6
    due = stored(store, status=SCHEDULED, run_at=moments.stamp(now - 0.001))
    later = stored(store, status=SCHEDULED, run_at=moments.stamp(now + 60))

    assert store.promote(0, 10) == 1

    assert [entry.uid for entry in store.queues.fetch(0, QUEUES, "a", 10)] == [due.uid]
    assert raw.zrange("sandbox:{0}:due", 0, -1) == [later.uid.encode()]
    found = store.read(due.uid)
    assert found is not None
    assert (found.task.status, found.task.run_at) == (QUEUED, None)


def test_a_due_time_without_a_task_is_cleared_away(store: Store, raw: redis.Redis) -> None:
    task = stored(store, status=SCHEDULED, run_at=NOW)
    raw.delete(task.uid)
    assert store.promote(0, 10) == 0
    assert not raw.exists("sandbox:{0}:due")


def test_a_due_time_of_what_is_not_scheduled_is_cleared_away_and_holds_up_nobody(
    store: Store, raw: redis.Redis
) -> None:
    done = stored(store, status=SCHEDULED, run_at=NOW)
    store.change(done.uid, lambda task: transitions.cancelled(task, NOW))
    raw.zadd("sandbox:{0}:due", {done.uid: 0})
    fine = stored(store, status=SCHEDULED, run_at=NOW)

    assert store.promote(0, 10) == 1

    assert [entry.uid for entry in store.queues.fetch(0, QUEUES, "a", 10)] == [fine.uid]
    assert not raw.exists("sandbox:{0}:due")


def test_a_due_time_stays_when_its_document_has_changed_since(
    server: RedisServer, store: Store, raw: redis.Redis
) -> None:
    task = stored(store, status=SCHEDULED, run_at=NOW)
    text = raw.get(task.uid)
    raw.set(task.uid, encode(transitions.cancelled(task, NOW)))
    late = interrupted(server, 2, lambda: raw.set(task.uid, text))
    assert late.promote(0, 10) == 0
    assert store.promote(0, 10) == 1
    late.close()


def test_of_two_that_promote_one_does(server: RedisServer, store: Store, raw: redis.Redis) -> None:
    stored(store, status=SCHEDULED, run_at=NOW)
    slow = interrupted(server, 2, lambda: store.promote(0, 10))
    assert slow.promote(0, 10) == 0
    assert raw.xlen(STREAM) == 1
    slow.close()


def test_a_duty_is_one_askers_for_its_time(store: Store) -> None:
    assert store.is_my_turn(0, "sweep", 50) is True
    assert store.is_my_turn(0, "sweep", 50) is False
    assert eventually(lambda: store.is_my_turn(0, "sweep", 50))


# --- the list ------------------------------------------------------------------------------------


def pages(store: Store, limit: int, between: Callable[[], object] = lambda: None, **only: str) -> list[list[str]]:
    found: list[list[str]] = []
    position: Position | None = None
    while True:
        page, position = store.index.page(limit=limit, after=position, only=filter_of(**only))
        found.append([task.uid for task in page])
        if position is None:
            return found
        between()


def at(second: int) -> str:
    return f"2026-01-01T00:{second // 60:02d}:{second % 60:02d}.000000Z"


def test_the_list_is_newest_first_whatever_the_type_queue_and_status(store: Store) -> None:
    made = [
        stored(store, at=at(0)),
        finished(store, at=at(1), type="sleep"),
        stored(store, at=at(2), queue="urgent"),
        stored(store, at=at(3), status=SCHEDULED, run_at=NOW),
    ]
    assert listed(store) == [task.uid for task in reversed(made)]


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_pages_hold_every_task_once(store: Store, limit: int) -> None:
    made = [stored(store, at=at(number), type=f"t{number % 3}").uid for number in range(7)]
    found = pages(store, limit)
    assert sum(found, []) == made[::-1]
    assert {len(page) for page in found[:-1]} <= {limit}


class _Noting(Wire):
    """The real wire; notes the commands, and what they answer."""

    def __init__(self, wire: Wire, groups: list[list[int]] | None = None) -> None:
        self._wire = wire
        self._groups = groups
        self.commands: list[Command] = []
        self.answers: list[Any] = []

    def call(self, partition: int, *commands: Command, wait_seconds: float = 0, once: bool = False) -> list[Any]:
        self.commands += commands
        answers = self._wire.call(partition, *commands, wait_seconds=wait_seconds, once=once)
        self.answers += answers
        return answers

    def together(self, partitions: int) -> list[list[int]]:
        return self._groups or self._wire.together(partitions)

    def close(self) -> None:
        self._wire.close()


@pytest.fixture
def noting(server: RedisServer) -> Iterator[_Noting]:
    wire = _Noting(connect(server.url, SCRIPTS))
    yield wire
    wire.close()


def test_a_page_costs_what_it_returns_however_many_shelves_there_are(noting: _Noting) -> None:
    store = Store(noting)
    for number in range(50):
        store.create([new(store, type=f"type-{number}", at=at(20 * number + place)) for place in range(20)])
    noting.answers.clear()
    page, _ = store.index.page(limit=15)
    assert [task.created_at for task in page] == [at(999 - place) for place in range(15)]
    pointers, documents = noting.answers
    assert (len(pointers), len(documents)) == (2 * 16, 16)


def test_a_filter_that_no_shelf_knows_is_asked_for_in_large_steps(
    noting: _Noting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(the_index, "PAGE_SECONDS", 60.0)  # a busy machine ends the page no sooner
    store = Store(noting)
    for _ in range(6):
        store.create([new(store, created_by="alice") for _ in range(100)])
    noting.commands.clear()
    assert store.index.page(limit=1, only=Filter(created_by="bob")) == ([], None)
    assert len(noting.commands) <= 2 * 6 + 2


@pytest.mark.parametrize("groups", [None, [[0], [1], [2], [3]]])
def test_pages_of_several_partitions_hold_every_task_once(server: RedisServer, groups: list[list[int]] | None) -> None:
    store = Store(_Noting(connect(server.url, SCRIPTS), groups), partitions=4)
    tasks = [new(store, type="abc"[number % 3], at=at(number // 5)) for number in range(60)]
    for task in tasks:
        store.create([task])
    seen: list[str] = []
    position: Position | None = None
    while True:
        page, position = store.index.page(limit=7, after=position)
        seen += [task.uid for task in page]
        if position is None:
            break
    assert seen == [task.uid for task in sorted(tasks, key=lambda task: (task.created_at, task.uid), reverse=True)]
    store.close()


# --- several partitions on one server ----------------------------------------------------------------


def test_what_is_urgent_comes_first_in_whichever_partition_it_lies(noting: _Noting) -> None:
    store = Store(noting, partitions=3)
    made: list[tuple[str, str]] = []
    for queue in ("b", "a"):
        for partition, priority in ((0, LOW), (2, NORMAL), (1, HIGH)):
            task = new(store, uid=store.uid(random_prefix(), partition), queue=queue, priority=priority)
            assert store.create([task]) == []
            made.insert(0, (queue, priority))
    found = [decode(entry.text or b"") for entry in store.queues.fetch(0, ["a", "b"], "a", 10)]
    assert [(task.queue, task.priority) for task in found] == made


def test_one_command_reaches_all_partitions_of_a_server_each_first_in_turn(noting: _Noting) -> None:
    store = Store(noting, partitions=3)
    for partition in (0, 1, 2):
        for queue in QUEUES_OF_TWO:
            task = new(store, uid=store.uid(random_prefix(), partition), queue=queue)
            store.create([task])
    noting.commands.clear()
    fetched = [
        [(entry.partition, entry.stream.rpartition(":")[2]) for entry in store.queues.fetch(1, QUEUES_OF_TWO, "a", 4)],
        [(entry.partition, entry.stream.rpartition(":")[2]) for entry in store.queues.fetch(2, QUEUES_OF_TWO, "a", 4)],
    ]
    assert fetched == [[(1, "urgent"), (2, "urgent"), (0, "urgent"), (1, "default")], [(2, "default"), (0, "default")]]
    assert len(noting.commands) == 2

    taken = store.queues.take_any(2, QUEUES_OF_TWO, "b", dead="a", idle_ms=0, count=5)
    assert sorted(entry.partition for entry in taken) == [0, 0, 1, 2, 2]
    assert len(store.move([claim_of(entry, "b") for entry in taken], consumer="b").stored) == 5
    [last] = store.queues.take_any(0, QUEUES_OF_TWO, "b", dead="a", idle_ms=0, count=5)
    claimed(store, last, "b")


def test_a_wait_reaches_all_partitions_of_a_server_and_makes_groups_that_are_missing(noting: _Noting) -> None:
    store = Store(noting, partitions=3)
    assert store.queues.wait(0, QUEUES_OF_TWO, "a", 9, 0.01) == []
    noting.commands.clear()
    task = new(store, uid=store.uid(random_prefix(), 2), queue="default")
    late = threading.Timer(0.1, lambda: store.create([task]))
    late.start()
    [entry] = store.queues.wait(0, QUEUES_OF_TWO, "a", 9, 10)
    assert (entry.partition, entry.uid) == (2, task.uid)
    late.join()
    assert [command[0] for command in noting.commands] == ["XREADGROUP", "EVALSHA"]


def test_what_is_due_in_any_partition_of_a_server_is_promoted_by_one_command(noting: _Noting) -> None:
    store = Store(noting, partitions=3)
    for partition in (0, 1, 2):
        store.create([new(store, uid=store.uid(random_prefix(), partition), status=SCHEDULED, run_at=NOW)])
    assert [store.promote(1, 2), store.promote(1, 2)] == [2, 1]
    assert [entry.partition for entry in store.queues.fetch(0, QUEUES, "a", 9)] == [0, 1, 2]


def test_the_last_page_has_no_next(store: Store) -> None:
    for number in range(4):
        stored(store, at=at(number))
    assert [len(page) for page in pages(store, 2)] == [2, 2]


def test_filters_go_by_type_queue_and_status(store: Store) -> None:
    first = stored(store, at=at(0), type="a", queue="x")
    second = stored(store, at=at(1), type="a", queue="y")
    third = finished(store, at=at(2), type="b", queue="x")

    assert listed(store, type="a") == [second.uid, first.uid]
    assert listed(store, queue="x") == [third.uid, first.uid]
    assert listed(store, status=CANCELLED) == [third.uid]
    assert listed(store, type="a", queue="x", status=QUEUED) == [first.uid]
    assert listed(store, type="c") == []


@pytest.mark.parametrize("limit", [1, 2, 5, 30])
def test_tasks_of_one_microsecond_are_all_listed_once(store: Store, limit: int) -> None:
    same = [stored(store, at=at(1), type=f"t{number % 3}").uid for number in range(30)]
    older = [stored(store, at=at(0), type=f"t{number % 3}").uid for number in range(5)]

    found = sum(pages(store, limit), [])

    assert found == sorted(same, reverse=True) + sorted(older, reverse=True)


def test_the_list_stays_right_while_tasks_come_go_and_change(store: Store, raw: redis.Redis) -> None:
    made = [stored(store, at=at(number)).uid for number in range(12)]
    doomed = iter(made[1:4])
    changing = iter(made[4:8])

    def meanwhile() -> None:
        stored(store, at=at(100))
        raw.delete(next(doomed))
        store.change(next(changing), lambda task: transitions.cancelled(task, NOW))

    found = sum(pages(store, 4, meanwhile), [])

    assert len(found) == len(set(found))
    assert set(found) >= set(made) - set(made[1:4])
    assert found == [uid for uid in made[::-1] if uid in found]


@pytest.mark.parametrize("call", [1, 2, 3])
def test_a_task_that_moves_to_a_new_shelf_meanwhile_is_not_missed(server: RedisServer, store: Store, call: int) -> None:
    task = stored(store)
    slow = interrupted(server, call, lambda: store.change(task.uid, lambda task: transitions.cancelled(task, NOW)))
    assert listed(slow) == [task.uid]
    slow.close()


def test_a_page_of_expired_tasks_ends_after_a_thousand_reads_and_goes_on(store: Store, raw: redis.Redis) -> None:
    last = stored(store, at=at(0))
    expired = [new(store, at=at(1 + number % 1000)) for number in range(2500)]
    for place in range(0, 2500, 500):
        store.create(expired[place : place + 500])
    raw.delete(*[task.uid for task in expired])

    found = pages(store, 20)

    assert len(found) <= 4
    assert sum(found, []) == [last.uid]


def commands_of(raw: redis.Redis, do: Callable[[], object]) -> dict[str, int]:
    raw.config_resetstat()
    do()
    stats = raw.info("commandstats")
    return {name: int(values["calls"]) for name, values in stats.items() if "config" not in name}


@pytest.mark.parametrize("only", [{}, {"status": QUEUED}, {"type": "echo"}, {"queue": "default"}])
def test_a_page_costs_the_same_with_many_tasks(store: Store, raw: redis.Redis, only: dict[str, str]) -> None:
    def fill(count: int) -> None:
        for _ in range(count):
            store.create([new(store) for _ in range(1000)])

    fill(1)
    few = commands_of(raw, lambda: listed(store, 50, **only))
    fill(10)
    many = commands_of(raw, lambda: listed(store, 50, **only))

    assert many == few
    assert sum(many.values()) < 10


# --- expiry and the sweep ------------------------------------------------------------------------


def sweep_all(store: Store, count: int = 3, before: int = 2**60) -> int:
    places: dict[str, int] = {}
    removed = store.index.sweep([0], created_before=before, count=count, places=places)
    while any(places.values()):
        removed += store.index.sweep([0], created_before=before, count=count, places=places)
    return removed


def test_a_sweep_removes_what_points_at_expired_tasks_and_nothing_else(store: Store, raw: redis.Redis) -> None:
    made = [stored(store, at=at(number)) for number in range(10)]
    raw.delete(*[task.uid for task in made[::2]])

    assert sweep_all(store) == 5

    assert listed(store) == [task.uid for task in made[1::2]][::-1]
    assert raw.zcard("sandbox:{0}:shelf:echo:default:queued") == 5


def test_a_shelf_that_is_empty_is_forgotten_and_comes_back(store: Store, raw: redis.Redis) -> None:
    task = stored(store)
    raw.delete(task.uid)
    sweep_all(store)
    assert raw.keys("sandbox:{0}:shel*") == []

    again = stored(store)
    assert listed(store) == [again.uid]


def test_a_sweep_leaves_alone_what_is_too_young_to_have_expired(store: Store, raw: redis.Redis) -> None:
    old, young = stored(store, at=at(0)), stored(store, at=at(10))
    raw.delete(old.uid, young.uid)
    assert sweep_all(store, before=moments.microseconds(at(10))) == 1
    assert raw.zrange("sandbox:{0}:shelf:echo:default:queued", 0, -1) == [young.uid.encode()]


def test_a_sweep_goes_on_where_it_ended(store: Store, raw: redis.Redis) -> None:
    made = [stored(store, at=at(number)) for number in range(10)]
    raw.delete(made[9].uid)
    places: dict[str, int] = {}

    removed = [store.index.sweep([0], created_before=2**60, count=4, places=places) for _ in range(3)]

    assert removed == [0, 0, 1]
    assert set(places.values()) == {0}


def test_a_task_made_again_with_its_key_after_it_expired_is_listed_once(store: Store, raw: redis.Redis) -> None:
    task = finished(store, at=at(0))
    raw.delete(task.uid)

    again = stored(store, uid=task.uid, at=at(5))

    assert listed(store) == [again.uid]
    assert listed(store, status=CANCELLED) == []
    store.change(task.uid, lambda task: transitions.cancelled(task, NOW))
    assert listed(store) == [again.uid]


# --- unknown fields, health ----------------------------------------------------------------------


def test_fields_of_a_newer_release_survive_in_redis(store: Store, raw: redis.Redis) -> None:
    task = stored(store)
    raw.set(task.uid, encode(task)[:-1] + b',"colour":{"r":1}}')
    changed = store.change(task.uid, lambda task: transitions.cancelled(task, NOW))
    assert changed is not None
    assert b'"colour":{"r":1}' in changed.text
    assert store.texts([task.uid]) == [changed.text]


def test_the_check_says_what_is_wrong(server: RedisServer, store: Store) -> None:
    store.check()
    with server.client() as raw:
        raw.config_set("min-replicas-to-write", 1)
        try:
            with pytest.raises(StoreUnavailable, match="too few replicas"):
                store.check()
        finally:
            raw.config_set("min-replicas-to-write", 0)


def test_error_of_an_attempt_is_kept_until_the_next_end(store: Store) -> None:
    stored(store)
    [entry] = store.queues.fetch(0, QUEUES, "a", 1)
    document = claimed(store, entry)
    after = transitions.retried(document.task, TaskError("X", "no"), NOW, 0.5, NOW)
    store.move([Change(document.text, document.task, after, entry)])
    store.promote(0, 1)
    found = store.read(entry.uid)
    assert found is not None
    assert found.task.error == TaskError("X", "no")


# --- the backlog ---------------------------------------------------------------------------------


def test_the_backlog_counts_each_queue_by_status(store: Store) -> None:
    for queue, status, count in (("default", QUEUED, 3), ("other", QUEUED, 1)):
        for _ in range(count):
            stored(store, queue=queue, status=status)
    stored(store, status=SCHEDULED, run_at="2099-01-01T00:00:00.000000Z")
    stored(store, type="another", status=QUEUED)
    finished(store)
    claimed(store, store.queues.fetch(0, QUEUES, "a", 1)[0])
    found = store.backlog(["default", "empty"])
    assert {queue: sizes[:3] for queue, sizes in found.items()} == {
        "default": (3, 1, 1),
        "other": (1, 0, 0),
        "empty": (0, 0, 0),
    }


def test_the_oldest_is_the_first_that_nobody_has_fetched(store: Store, raw: redis.Redis) -> None:
    now = int(raw.time()[0]) * 1000
    for seconds in (500, 300, 100):
        raw.xadd(STREAM, {"uid": stored(store, queue="elsewhere").uid}, id=f"{now - seconds * 1000}-0")
    stored(store)
    assert store.backlog(QUEUES)["default"].oldest == pytest.approx(500, abs=30)
    store.queues.fetch(0, QUEUES, "a", 2)
    assert store.backlog(QUEUES)["default"].oldest == pytest.approx(100, abs=30)
    store.queues.fetch(0, QUEUES, "a", 2)
    assert store.backlog(QUEUES)["default"].oldest == 0


def test_what_was_handed_back_is_as_old_as_its_return(store: Store) -> None:
    stored(store)
    [entry] = store.queues.fetch(0, QUEUES, "a", 1)
    held = claimed(store, entry)
    store.move([Change(held.text, held.task, transitions.handed_back(held.task, ran=False), entry)])
    eventually(lambda: store.backlog(QUEUES)["default"].oldest > 0.01)
    assert store.backlog(QUEUES)["default"].depth == 1


def test_a_backlog_of_many_costs_no_more_than_that_of_few(store: Store, raw: redis.Redis) -> None:
    stored(store)
    store.queues.fetch(0, QUEUES, "a", 1)
    raw.eval(
        "for i = 1, 100000 do redis.call('XADD', KEYS[1], '*', 'uid', i); redis.call('ZADD', KEYS[2], i, i) end",
        2,
        STREAM,
        "sandbox:{0}:shelf:echo:default:queued",
    )
    raw.xreadgroup(GROUP, "a", {STREAM: ">"}, 50_000)
    assert store.backlog(QUEUES)["default"].oldest >= 0
    microseconds = []
    for _ in range(10):
        raw.config_resetstat()
        assert store.backlog(QUEUES)["default"].depth == 100_001
        microseconds.append(raw.info("commandstats")["cmdstat_evalsha"]["usec_per_call"])
    assert min(microseconds) < 2000  # others may have been given the processor meanwhile


def test_a_batch_with_large_results_is_found_again_in_small_commands(store: Store, raw: redis.Redis) -> None:
    result = msgspec.Raw(b'"%s"' % (b"x" * 262_000))
    batch = [new(store, uid=store.uid(random_prefix(), 0)) for _ in range(60)]
    done = [msgspec.structs.replace(each, status=SUCCEEDED, result=result) for each in batch[1:]]
    for each in done:
        raw.set(each.uid, encode(each))
    assert store.create(batch)
    raw.config_resetstat()
    present = store.create(batch)
    assert present[0] is None and [found and found.text for found in present[1:]] == [encode(each) for each in done]
    told = raw.info("commandstats")
    assert told["cmdstat_get"]["calls"] == 1 + 16  # what 4 MiB hold, and the first, which is not there
    assert told["cmdstat_mget"]["calls"] == 3
