"""Unique keys: one task at a time, whatever ends it, and nothing that keeps a key for ever."""

from collections.abc import Callable
from typing import Any

import pytest

from service.errors import KeyHeld, StoreUnavailable
from service.runner.sweep import Sweep
from service.store import TYPE, Change, Document, Entry, Filter, Pause, Store, deeds, keys, unique_keys
from service.store.unique_keys import Created
from service.tasks import transitions
from service.tasks.document import CANCELLED, NULL, QUEUED, SCHEDULED, Claim, Task, TaskError, Unique, decode
from service.tasks.uid import random_prefix
from service.tasks.unique import FINISHED, STARTED

QUEUES = ("default", "other")
NOW = "2026-03-01T12:00:00.000000Z"
LATER = "2126-03-01T12:00:00.000000Z"
CONFLICTS = ("return", "reject", "replace", "keep_last")


@pytest.fixture
def store(partitioned: Store) -> Store:
    return partitioned


def task(
    store: Store, on_conflict: str = "return", *, key: str = "acme", until: str = "finished", **fields: Any
) -> Task:
    wanted = Unique(key, until, on_conflict)
    home = store.unique_keys.home("sync", wanted)
    known = {"uid": store.uid(random_prefix(), home), "type": "sync", "queue": "default", "status": QUEUED}
    return Task(**(known | {"created_at": NOW, "unique": wanted} | fields))


def create(store: Store, *new: Task) -> Created:
    return store.create_unique(new)


def created(store: Store, on_conflict: str = "return", **fields: Any) -> Task:
    new = task(store, on_conflict, **fields)
    assert create(store, new).new == [new]
    return new


def status(store: Store, uid: str) -> str:
    found = store.read(uid)
    assert found is not None
    return found.task.status


def entries(store: Store, count: int = 10) -> list[Entry]:
    return [
        entry
        for group in store.groups
        for entry in store.queues.fetch(group[0], QUEUES, "a", count)
        if entry.text is not None and decode(entry.text).status == QUEUED
    ]


def claimed(store: Store, entry: Entry) -> Document:
    assert entry.text is not None
    before = decode(entry.text)
    after = transitions.claimed(before, Claim("a", entry.id, entry.stream, entry.id))
    [(_, document)] = store.move([Change(entry.text, before, after, entry)], consumer="a").stored
    return document


def started(store: Store) -> tuple[Document, Entry]:
    [entry] = entries(store)
    return claimed(store, entry), entry


def settled(store: Store, document: Document, entry: Entry, after: Task) -> None:
    assert store.move([Change(document.text, document.task, after, entry)]).refused == []


def succeed(store: Store, document: Document, entry: Entry) -> None:
    settled(store, document, entry, transitions.succeeded(document.task, NULL, NOW, NOW, 0.0))


def fail(store: Store, document: Document, entry: Entry) -> None:
    settled(store, document, entry, transitions.failed(document.task, TaskError("E", "m"), NOW, NOW, 0.0))


def cancel(store: Store, uid: str) -> None:
    assert store.change(uid, lambda task: transitions.cancelled(task, NOW))


def counted(store: Store, command: str, name: str) -> int:
    partitions = range(store.partitions)
    return sum(store._wire.call(each, (command, keys.base(each) + name))[0] for each in partitions)


def records(store: Store) -> dict[str, str]:
    """Every unique key that is taken, and by whom."""
    found: dict[str, str] = {}
    for partition in range(store.partitions):
        [flat] = store._wire.call(partition, ("HGETALL", keys.unique(partition)))
        found.update((key.decode(), who.decode()) for key, who in zip(flat[::2], flat[1::2], strict=True))
    return found


# --- what comes of a second one ----------------------------------------------------------------------


def test_return_answers_with_the_task_that_is_there(store: Store) -> None:
    first = created(store)
    made = create(store, task(store))
    assert [each.uid for each in made.tasks] == [first.uid]
    assert (made.new, made.present) == ([], [])
    assert list(records(store).values()) == [first.uid]


def test_reject_names_the_task_that_is_there(store: Store) -> None:
    first = created(store)
    with pytest.raises(KeyHeld, match=f"{first.uid} has the same unique key, and is queued") as raised:
        create(store, task(store, "reject"))
    assert raised.value.holder == first.uid
    assert store.index.page(limit=10)[0] == [first]


@pytest.mark.parametrize("rule", ["replace", "keep_last"])
def test_one_that_has_not_started_gives_way(store: Store, rule: str) -> None:
    first = created(store, status=SCHEDULED, run_at=LATER)
    second = task(store, rule)
    made = create(store, second)
    assert [each.uid for each in made.replaced] == [first.uid]
    found = store.read(first.uid)
    assert found is not None and found.task.error is not None
    assert (found.task.status, found.task.run_at, found.task.error.type) == (CANCELLED, None, "Replaced")
    assert second.uid in found.task.error.message
    assert list(records(store).values()) == [second.uid]
    assert [each.uid for each in store.index.page(limit=10, only=Filter(status=(CANCELLED,)))[0]] == [first.uid]
    assert counted(store, "ZCARD", "due") == counted(store, "ZCARD", "shelf:sync:default:scheduled") == 0
    document, _ = started(store)
    assert document.task.uid == second.uid


def test_one_that_is_set_aside_gives_way_too(store: Store) -> None:
    """Its type is paused."""
    first = created(store)
    store.pauses.pause(TYPE, "sync", Pause(None, NOW, None, None))
    [entry] = entries(store)
    assert entry.text is not None
    after = transitions.claimed(decode(entry.text), Claim("a", entry.id, entry.stream, entry.id))
    store.move([Change(entry.text, decode(entry.text), after, entry)], consumer="a")
    assert counted(store, "ZCARD", "lot:sync:default:normal") == 1
    assert [each.uid for each in create(store, task(store, "replace")).replaced] == [first.uid]
    assert counted(store, "ZCARD", "lot:sync:default:normal") == 0


def test_replace_does_not_touch_one_that_has_started(store: Store) -> None:
    first = created(store)
    started(store)
    with pytest.raises(KeyHeld, match=f"{first.uid} has the same unique key, and is running"):
        create(store, task(store, "replace"))


def test_one_that_waits_for_another_attempt_has_started(store: Store) -> None:
    created(store)
    document, entry = started(store)
    settled(store, document, entry, transitions.retried(document.task, TaskError("E", "m"), NOW, 0.0, LATER))
    with pytest.raises(KeyHeld, match="and is scheduled"):
        create(store, task(store, "replace"))


def test_of_keep_last_one_runs_and_the_newest_waits(store: Store) -> None:
    created(store, "keep_last")
    document, entry = started(store)
    second = created(store, "keep_last")
    third = created(store, "keep_last", queue="other")
    assert (status(store, second.uid), status(store, third.uid)) == (CANCELLED, QUEUED)
    assert entries(store) == [], "it waits for the end of the first"
    succeed(store, document, entry)
    document, entry = started(store)
    assert document.task.uid == third.uid
    succeed(store, document, entry)
    assert records(store) == {}


@pytest.mark.parametrize("end", [succeed, fail, lambda store, document, entry: cancel(store, document.task.uid)])
def test_who_waits_behind_comes_however_the_first_one_ends(store: Store, end: Callable[..., None]) -> None:
    created(store, "keep_last")
    document, entry = started(store)
    second = created(store, "keep_last")
    end(store, document, entry)
    [waiting] = entries(store)
    assert waiting.uid == second.uid


@pytest.mark.parametrize(("rule", "until"), [("keep_last", FINISHED), ("replace", FINISHED), ("replace", STARTED)])
def test_who_waits_behind_is_not_started_by_an_entry_from_before_a_purge(store: Store, rule: str, until: str) -> None:
    earlier = created(store, rule, until=until)
    store.change(earlier.uid, lambda found: transitions.cancelled(found, NOW))
    assert store.purge(earlier.uid)  # its entry is still in the stream
    holder = created(store, "keep_last", queue="other")
    [stale, entry] = sorted(entries_of(store), key=lambda entry: "other" in entry.stream)
    document = claimed(store, entry)
    if rule == "replace":  # it replaces who waits behind already
        created(store, "keep_last")
    again = task(store, rule, until=until, uid=earlier.uid)  # as with the same Idempotency-Key
    assert create(store, again).new == [again]
    found = store.read(again.uid)
    assert found is not None
    after = transitions.claimed(found.task, Claim("a", stale.id, stale.stream, stale.id))
    assert store.move([Change(found.text, found.task, after, stale)], consumer="a").stored == []
    assert (status(store, holder.uid), status(store, again.uid)) == ("running", QUEUED)

    settled(store, document, entry, transitions.succeeded(document.task, NULL, NOW, NOW, 0.0))
    [its_own] = entries(store)
    assert claimed(store, its_own).task.uid == again.uid


def entries_of(store: Store) -> list[Entry]:
    """Also those whose task is gone."""
    return [entry for group in store.groups for entry in store.queues.fetch(group[0], QUEUES, "a", 10)]


def test_one_that_was_cancelled_while_it_waited_behind_is_forgotten(store: Store) -> None:
    created(store, "keep_last")
    document, entry = started(store)
    second = created(store, "keep_last")
    cancel(store, second.uid)
    assert list(records(store).values()) == [document.task.uid]
    succeed(store, document, entry)
    assert (records(store), entries(store)) == ({}, [])


def test_what_waits_behind_has_no_due_time(store: Store) -> None:
    created(store, "keep_last")
    started(store)
    with pytest.raises(KeyHeld):
        create(store, task(store, "keep_last", status=SCHEDULED, run_at=LATER))


def test_another_key_or_another_type_is_no_conflict(store: Store) -> None:
    created(store, "reject")
    created(store, "reject", key="other")
    other = Unique("acme", "finished", "reject")
    home = store.unique_keys.home("mail", other)
    created(store, "reject", uid=store.uid(random_prefix(), home), type="mail")


def test_what_is_there_under_the_same_uid_comes_before_the_key(store: Store) -> None:
    """A repeated request, and one that the wire has sent twice."""
    first = created(store, "reject")
    assert [each and each.task.uid for each in create(store, first).present] == [first.uid]


# --- how long ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [succeed, fail, lambda store, document, entry: cancel(store, document.task.uid)])
@pytest.mark.parametrize("until", ["finished", "started"])
def test_the_key_is_free_when_the_task_has_ended(store: Store, until: str, end: Callable[..., None]) -> None:
    created(store, until=until)
    document, entry = started(store)
    assert len(records(store)) == (until == "finished")
    end(store, document, entry)
    assert records(store) == {}
    created(store, "reject")


def test_until_started_lets_the_next_one_in_when_the_first_is_claimed(store: Store) -> None:
    created(store, until="started")
    with pytest.raises(KeyHeld):
        create(store, task(store, "reject", until="started"))
    document, entry = started(store)
    second = created(store, "reject", until="started")
    succeed(store, document, entry)
    assert list(records(store).values()) == [second.uid], "the first one does not give away what the second has"


def test_another_attempt_keeps_the_key(store: Store) -> None:
    first = created(store)
    document, entry = started(store)
    settled(store, document, entry, transitions.retried(document.task, TaskError("E", "m"), NOW, 0.0, NOW))
    assert list(records(store).values()) == [first.uid]
    store.promote(store.groups[0][0], 10)
    assert list(records(store).values()) == [first.uid]


# --- retry ---------------------------------------------------------------------------------------------


def test_a_retry_takes_the_key_again(store: Store) -> None:
    first = created(store)
    cancel(store, first.uid)
    assert store.change(first.uid, transitions.requeued)
    assert list(records(store).values()) == [first.uid]


def test_a_retry_is_refused_while_another_one_has_the_key(store: Store) -> None:
    first = created(store)
    cancel(store, first.uid)
    second = created(store)
    with pytest.raises(KeyHeld, match=second.uid):
        store.change(first.uid, transitions.requeued)
    assert status(store, first.uid) == CANCELLED
    cancel(store, second.uid)
    assert store.change(first.uid, transitions.requeued)


def test_a_retry_that_knows_nothing_of_the_holder_is_refused_by_the_script(store: Store) -> None:
    first = created(store)
    cancel(store, first.uid)
    found = store.read(first.uid)
    created(store)
    assert found is not None
    [refused] = store.move([Change(found.text, found.task, transitions.requeued(found.task))]).refused
    assert refused.before.uid == first.uid


def test_of_many_that_are_retried_at_once_one_gets_the_key(store: Store) -> None:
    tasks = [created(store) for _ in range(3) if cancel_all(store) is None]
    cancel_all(store)
    act = task(store, created_at=LATER, type="act", unique=None)
    *_, done = deeds.retry(store, act, Filter()).go_on(transitions.requeued, lambda changed: None)
    assert (done.changed, done.left_out) == (1, {deeds.KEY_IS_HELD: 2})
    assert sorted(status(store, each.uid) for each in tasks) == [CANCELLED, CANCELLED, QUEUED]


def cancel_all(store: Store) -> None:
    for found in store.index.page(limit=100)[0]:
        if not found.finished:
            cancel(store, found.uid)


# --- batches -------------------------------------------------------------------------------------------


def test_a_batch_is_stored_whole_or_not_at_all(store: Store) -> None:
    first = created(store)
    plain = task(store, unique=None)
    with pytest.raises(KeyHeld, match=r"tasks\[1\]: ") as raised:
        create(store, plain, task(store, "reject"))
    assert (raised.value.index, store.read(plain.uid)) == (1, None)
    made = create(store, plain, task(store))
    assert ([each.uid for each in made.tasks], made.new) == ([plain.uid, first.uid], [plain])


def test_a_batch_replaces_one_and_returns_another(store: Store) -> None:
    home = store.unique_keys.home("sync", Unique("acme", "finished", "return"))
    same = (f"k{number}" for number in range(1000))
    other = next(key for key in same if store.unique_keys.home("sync", Unique(key, "finished", "return")) == home)
    first, second = created(store), created(store, key=other)
    newer = task(store, "replace")
    made = create(store, task(store, key=other), newer)
    assert [each.uid for each in made.tasks] == [second.uid, newer.uid]
    assert [each.uid for each in made.replaced] == [first.uid]


# --- when the holder changes meanwhile -----------------------------------------------------------------------


def meanwhile(monkeypatch: pytest.MonkeyPatch, do: Callable[[], object]) -> None:
    """After the new task has met the holder, and before it acts on it."""
    judge, left = unique_keys._judge, [do]

    def judged(*args: Any) -> None:
        judge(*args)
        if left:
            left.pop()()

    monkeypatch.setattr(unique_keys, "_judge", judged)


def test_a_holder_that_starts_meanwhile_is_not_replaced(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first = created(store)
    meanwhile(monkeypatch, lambda: started(store))
    with pytest.raises(KeyHeld, match="is running"):
        create(store, task(store, "replace"))
    assert status(store, first.uid) == "running"


def test_a_holder_that_ends_meanwhile_leaves_the_key(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first = created(store)
    meanwhile(monkeypatch, lambda: cancel(store, first.uid))
    second = task(store, "replace")
    assert create(store, second).replaced == []
    found = store.read(first.uid)
    assert found is not None and found.task.error is None
    assert list(records(store).values()) == [second.uid]


def test_one_that_was_to_wait_behind_runs_at_once_when_the_first_has_ended(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    created(store, "keep_last")
    document, entry = started(store)
    meanwhile(monkeypatch, lambda: succeed(store, document, entry))
    second = created(store, "keep_last")
    [waiting] = entries(store)
    assert waiting.uid == second.uid


def test_where_the_key_changes_hands_all_the_time_the_client_is_told_to_come_again(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    created(store, "replace")
    judge = unique_keys._judge

    def judged(*args: Any) -> None:
        judge(*args)
        monkeypatch.setattr(unique_keys, "_judge", judge)
        created(store, "replace")
        monkeypatch.setattr(unique_keys, "_judge", judged)

    monkeypatch.setattr(unique_keys, "_judge", judged)
    with pytest.raises(StoreUnavailable, match="from task to task"):
        create(store, task(store, "replace"))


# --- what no script of this release has ended ------------------------------------------------------------------


def test_a_task_that_cannot_be_read_has_its_key_until_it_is_purged(store: Store) -> None:
    first = created(store)
    home = store.partition(first.uid)
    assert home is not None
    store._wire.call(home, ("SET", first.uid, "no document"))
    for rule in CONFLICTS:
        with pytest.raises(KeyHeld, match="cannot be read"):
            create(store, task(store, rule))
    store.purge(first.uid)
    created(store, "reject")


def test_who_waits_behind_one_that_was_purged_comes_with_the_sweep(store: Store) -> None:
    created(store, "keep_last")
    document, _ = started(store)
    second = created(store, "keep_last")
    home = store.partition(second.uid)
    assert home is not None
    store._wire.call(home, ("SET", document.task.uid, "no document"))
    store.purge(document.task.uid)
    sweep_keys(store)
    [waiting] = entries(store)
    assert waiting.uid == second.uid
    assert list(records(store).values()) == [second.uid]


def test_a_key_of_a_task_that_an_older_release_has_ended_is_free_and_its_record_goes(store: Store) -> None:
    first = created(store)
    found = store.read(first.uid)
    home = store.partition(first.uid)
    assert found is not None and home is not None
    store._wire.call(home, ("PEXPIRE", first.uid, 60_000))
    created(store, "reject", queue="other")
    cancel_all(store)
    store._wire.call(home, ("HSET", keys.unique(home), "k", first.uid))
    sweep_keys(store)
    assert records(store) == {}


def sweep_keys(store: Store) -> None:
    sweep = Sweep(store, retention_seconds=60)
    sweep.begin_with_keys()
    assert not sweep.look_at_keys()
