"""Acts on all tasks that a filter admits, wherever they are cut short."""

import time
from typing import Any

import pytest

from service.errors import StoreUnavailable
from service.store import Filter, Store, deeds
from service.store import index as the_index
from service.store.deeds import CHANGED_MEANWHILE, IS_A_DEED, IS_ASKED_ANEW, Done
from service.tasks import moments, transitions
from service.tasks.declare import RETRY_MANY
from service.tasks.document import CANCELLED, FAILED, QUEUED, RUNNING, SUCCEEDED, Task, TaskError
from service.tasks.uid import random_prefix
from tests.store.test_store import NOW, new, stored


@pytest.fixture
def store(partitioned: Store) -> Store:
    return partitioned


def failed(store: Store, **fields: Any) -> Task:
    known = {"status": FAILED, "finished_at": NOW, "error": TaskError(type="KeyError", message="")}
    return stored(store, **(known | fields))


def now() -> str:
    return moments.stamp(time.time())


def wish(store: Store) -> Task:
    """The task that carries a deed out."""
    return stored(store, type=RETRY_MANY, status=RUNNING, at=now())


def retry(store: Store, task: Task, **only: Any) -> Done:
    *_, done = deeds.retry(store, task, Filter(**only)).go_on(transitions.requeued, lambda changed: None)
    return done


def cancel(store: Store, task: Task, **only: Any) -> Done:
    *_, done = deeds.cancel(store, task, Filter(**only)).go_on(
        lambda each: transitions.cancelled(each, now()), lambda changed: None
    )
    return done


def status(store: Store, task: Task) -> str:
    found = store.read(task.uid)
    assert found is not None
    return found.task.status


def test_it_retries_all_that_the_filter_admits_and_touches_nothing_else(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(the_index, "MANY", 17)
    monkeypatch.setattr(the_index, "READ_AT_ONCE", 7)
    monkeypatch.setattr(the_index, "READ_FIRST", 7)
    wanted = [failed(store, type="report", queue="ab"[number % 2]) for number in range(30)]
    others = [
        *[failed(store, type="other") for _ in range(5)],
        *[failed(store, type="report", error=TaskError(type="OSError", message="")) for _ in range(5)],
        stored(store, type="report"),
        stored(store, type="report", status=SUCCEEDED, finished_at=NOW),
        stored(store, type="report", status=CANCELLED, finished_at=NOW),
    ]
    before = [status(store, task) for task in others]
    done = retry(store, wish(store), type=("report",), status=("failed",), error="KeyError")
    assert (done.changed, done.left_out) == (30, {})
    assert {status(store, task) for task in wanted} == {QUEUED}
    assert [status(store, task) for task in others] == before


def test_without_a_status_it_means_those_that_can_be_changed(store: Store) -> None:
    tasks = [stored(store, type="a", status=each, finished_at=NOW) for each in (FAILED, CANCELLED, SUCCEEDED)]
    waits = stored(store, type="a")
    assert (retry(store, wish(store), type=("a",)).changed, status(store, tasks[2])) == (2, SUCCEEDED)
    done = cancel(store, wish(store), type=("a",))
    assert (done.changed, done.left_out) == (3, {})
    assert {status(store, task) for task in (tasks[0], tasks[1], waits)} == {CANCELLED}


def test_it_says_how_many_were_left_out_and_why(store: Store) -> None:
    for each in (FAILED, SUCCEEDED, SUCCEEDED, QUEUED):
        stored(store, type="a", status=each, finished_at=NOW)
    failed(store, type=RETRY_MANY)
    broken = failed(store, type="a")
    store._wire.call(store._partitions.home(broken.uid), ("SET", broken.uid, b"{"))
    done = retry(store, wish(store), status=("failed", "succeeded", "queued", "unreadable"))
    assert (done.changed, done.left_out) == (1, {"succeeded": 2, "queued": 1, IS_A_DEED: 1, "unreadable": 1})


def test_a_release_is_not_sent_on_by_a_retry_of_many(store: Store) -> None:
    release = failed(store, type="release.deploy")
    done = retry(store, wish(store), status=("failed",))
    assert (done.changed, done.left_out) == (0, {IS_ASKED_ANEW: 1})
    assert status(store, release) == FAILED
    waiting = stored(store, type="release.deploy")
    assert cancel(store, wish(store), status=("queued",)).changed == 1
    assert status(store, waiting) == CANCELLED


def test_it_touches_neither_itself_nor_what_comes_later(store: Store) -> None:
    itself = wish(store)
    later = stored(store, type="a", at=moments.stamp(time.time() + 1))
    done = cancel(store, itself, status=("queued", "running"))
    assert (done.changed, done.left_out) == (0, {})
    assert (status(store, itself), status(store, later)) == (RUNNING, QUEUED)


def test_what_has_ended_again_since_it_was_wished_is_not_retried_again(store: Store) -> None:
    """As after a run that was cut short: the task has been retried by it, and has failed again."""
    failed(store, type="a")
    itself = wish(store)
    failed(store, type="a", at="2026-03-02T12:00:00.000000Z", finished_at=now())
    done = retry(store, itself, type=("a",))
    assert (done.changed, done.left_out) == (1, {CHANGED_MEANWHILE: 1})


def test_what_changes_under_its_hands_is_judged_anew(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what another client has done is overwritten, nor what the filter excludes now is touched."""
    tasks = [failed(store, type="a") for _ in range(3)]
    read = store.index._read

    def meddled(uids: Any) -> Any:
        documents = read(uids)
        monkeypatch.setattr(store.index, "_read", read)
        store.change(tasks[0].uid, transitions.requeued)
        store.change(tasks[0].uid, lambda task: transitions.cancelled(task, NOW))
        store.change(tasks[1].uid, transitions.requeued)
        return documents

    monkeypatch.setattr(store.index, "_read", meddled)
    done = retry(store, wish(store), type=("a",), status=("failed",))
    assert (done.changed, done.left_out) == (2, {CHANGED_MEANWHILE: 1})  # one has become the very same text
    assert [status(store, task) for task in tasks] == [CANCELLED, QUEUED, QUEUED]


class _Cut(Exception):
    pass


@pytest.mark.parametrize("cut", range(4))
def test_cut_short_it_goes_on_where_it_was_and_changes_nothing_twice(
    store: Store, monkeypatch: pytest.MonkeyPatch, cut: int
) -> None:
    monkeypatch.setattr(the_index, "READ_AT_ONCE", 10)
    monkeypatch.setattr(the_index, "READ_FIRST", 10)
    tasks = [failed(store, type="a", at=f"2026-03-01T12:00:{number:02d}.000000Z") for number in range(35)]
    itself, note = wish(store), store.note

    def cut_short(uid: str, text: bytes) -> None:
        nonlocal cut
        cut -= 1
        if cut < 0:
            monkeypatch.setattr(store, "note", note)
            raise _Cut  # what this batch has changed is not written down
        note(uid, text)

    monkeypatch.setattr(store, "note", cut_short)
    lost = min(10, 35 - 10 * cut)
    with pytest.raises(_Cut):
        retry(store, itself, type=("a",), status=("failed",))
    done = retry(store, itself, type=("a",), status=("failed",))
    found = [store.read(task.uid) for task in tasks]
    assert [each and (each.task.status, each.task.revision) for each in found] == [(QUEUED, 2)] * 35
    assert done.changed == 35 - lost
    again = retry(store, itself, type=("a",), status=("failed",))
    assert again.over and again.changed == done.changed


def test_what_was_stored_though_the_answer_was_lost_counts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    failed(store, type="a")
    move = store.move

    def twice(changes: Any, **options: Any) -> Any:
        monkeypatch.setattr(store, "move", move)
        move(changes, **options)
        return move(changes, **options)

    monkeypatch.setattr(store, "move", twice)
    done = retry(store, wish(store), type=("a",))
    assert (done.changed, done.left_out) == (1, {})


def test_what_was_changed_before_redis_failed_is_told_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = [failed(store, type="a") for _ in range(4)]
    itself, move, told = wish(store), store.move, list[str]()

    def cut_short(changes: Any) -> Any:
        monkeypatch.setattr(store, "move", move)
        move(changes[:3])
        raise StoreUnavailable("one partition is away")

    def go_on() -> None:
        deed = deeds.retry(store, itself, Filter(type=("a",)))
        list(deed.go_on(transitions.requeued, lambda changed: told.extend(task.uid for task in changed)))

    monkeypatch.setattr(store, "move", cut_short)
    with pytest.raises(StoreUnavailable):
        go_on()
    assert len(told) == 3
    go_on()
    assert sorted(told) == sorted(task.uid for task in tasks)


def test_what_was_changed_is_told_though_a_partition_beside_it_stays_away(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = [failed(store, type="a", uid=store.uid(random_prefix(), partition)) for partition in range(4)]
    itself, move, call, told = wish(store), store.move, store._wire.call, list[str]()
    first, *_, last = sorted(tasks, key=lambda task: task.uid)

    def without_one(partition: int, *commands: Any, **named: Any) -> Any:
        if partition == store.partition(last.uid):
            raise StoreUnavailable("one partition is away")
        return call(partition, *commands, **named)

    def is_lost(changes: Any) -> Any:
        monkeypatch.setattr(store._wire, "call", without_one)
        return move(sorted(changes, key=lambda change: change.before.uid))

    monkeypatch.setattr(store, "move", is_lost)
    deed = deeds.retry(store, itself, Filter(type=("a",)))
    with pytest.raises(StoreUnavailable):
        list(deed.go_on(transitions.requeued, lambda changed: told.extend(task.uid for task in changed)))
    assert first.uid in told
    assert {status(store, task) for task in tasks if task.uid in told} == {QUEUED}
    assert sorted(told) == sorted(task.uid for task in tasks if task is not last)


def test_it_is_counted_beforehand_as_it_is_done(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(12):
        failed(store, type="ab"[number % 2], created_by="alice")
    stored(store, type="a")
    assert deeds.matched(store, Filter(type=("a",)), deeds.RETRIED, now()) == (6, False)
    assert deeds.matched(store, Filter(created_by="alice"), deeds.RETRIED, now()) == (12, False)
    assert deeds.matched(store, Filter(status=("failed",)), deeds.CANCELLED_ONES, now()) == (12, False)
    monkeypatch.setattr(the_index, "READ_AT_ONCE", 5)
    monkeypatch.setattr(the_index, "READ_FIRST", 5)
    monkeypatch.setattr(deeds, "COUNT_SECONDS", 0.0)
    number, more = deeds.matched(store, Filter(created_by="alice"), deeds.RETRIED, now())
    assert 0 < number <= 12 and more
    assert deeds.matched(store, Filter(created_by="bob"), deeds.CANCELLED_ONES, now()) == (0, False)


def test_it_comes_before_all_that_waits_in_its_queue(store: Store) -> None:
    home = store.partition(store.uid("0" * 59, 0))
    assert home == 0
    waits = new(store, uid=store.uid("1" * 59, 0))
    first = new(store, uid=store.uid("2" * 59, 0))
    store.create([waits])
    store.create([first], first=True)
    assert [entry.uid for entry in store.queues.fetch(0, ["default"], "a", 1)] == [first.uid]


def test_a_deletion_that_somebody_thought_better_of_is_not_done_by_a_retry_of_many(store: Store) -> None:
    once = stored(store, type="workspace.delete", status=CANCELLED, finished_at=NOW)
    done = retry(store, wish(store))
    assert (done.changed, done.left_out) == (0, {IS_ASKED_ANEW: 1})
    assert status(store, once) == CANCELLED
