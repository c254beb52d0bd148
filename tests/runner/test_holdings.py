"""What a lane holds stays known until Redis has answered."""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest

from service.errors import StoreUnavailable, TimedOut
from service.observe.logs import Line
from service.runner import outcomes
from service.runner.holdings import Held, Holdings
from service.runner.journal import Report
from service.store import Change, Entry, Store
from service.tasks import moments, transitions
from service.tasks.document import NORMAL, NULL, SUCCEEDED, Claim, Task, decode
from service.tasks.uid import random_prefix
from tests.runner.wires import FaultyWire
from tests.servers import RedisServer

QUEUES = ("default",)


class Silence:
    def write(self, lines: Sequence[Line]) -> None:
        pass


class Told:
    def __init__(self) -> None:
        self.uids: list[str] = []

    def write(self, lines: Sequence[Any]) -> None:
        self.uids += [line.uid for line in lines]


@pytest.fixture
def holdings(store: Store) -> Holdings:
    return Holdings(store, Report(Silence()))


def new_task(store: Store, partition: int | None = None, queue: str = "default", priority: str = NORMAL) -> Task:
    return Task(
        uid=store.uid(random_prefix(), partition),
        type="echo",
        queue=queue,
        priority=priority,
        status="queued",
        created_at=moments.stamp(time.time()),
    )


def claims(store: Store, holdings: Holdings, count: int = 2) -> list[Held]:
    store.create([new_task(store) for _ in range(count)])
    entries = store.queues.fetch(0, QUEUES, "me", count)
    holdings.keep(entries)
    changes = [change(entry) for entry in entries]
    return [
        Held(change.entry, document) for change, document in store.move(changes, consumer="me").stored if change.entry
    ]


def change(entry: Entry) -> Change:
    task = decode(entry.text or b"")
    claim = Claim(consumer="me", token=f"t-{entry.id}", stream=entry.stream, entry=entry.id)
    return Change(entry.text or b"", task, transitions.claimed(task, claim), entry)


def statuses(store: Store, held: Sequence[Held]) -> list[str]:
    return [document.task.status for one in held if (document := store.read(one.entry.uid))]


def succeed(held: Held) -> Held:
    moment = moments.stamp(time.time())
    held.transition = partial(transitions.succeeded, result=NULL, started_at=moment, finished_at=moment, duration=0.0)
    return held


def test_what_is_settled_is_held_no_more(store: Store, holdings: Holdings) -> None:
    held = claims(store, holdings)
    holdings.ended.extend(map(succeed, held))
    holdings.settle_ended()
    assert statuses(store, held) == ["succeeded", "succeeded"]
    assert holdings.entries() == [] == list(holdings.again)


def test_what_is_fetched_along_with_a_settlement_is_known_though_a_part_of_it_was_refused(
    store: Store, holdings: Holdings
) -> None:
    cancelled, fine = claims(store, holdings)
    store.change(cancelled.entry.uid, lambda task: transitions.cancelled(task, moments.stamp(time.time())))
    waits = new_task(store)
    store.create([waits])
    holdings.ended.extend(map(succeed, (cancelled, fine)))
    [entry] = holdings.settle_and_fetch(0, QUEUES, "me", 9)
    assert entry.uid == waits.uid
    assert statuses(store, [cancelled, fine]) == ["cancelled", "succeeded"]
    assert {known.uid for known in holdings.entries()} == {waits.uid, cancelled.entry.uid}
    assert [again.uid for again in holdings.again] == [cancelled.entry.uid]


@pytest.mark.parametrize(
    "settle", [Holdings.settle_ended, lambda holdings: holdings.settle_and_fetch(0, QUEUES, "me", 9)]
)
def test_an_outcome_whose_answer_is_lost_is_kept_and_settled_once(
    store: Store, holdings: Holdings, wire: FaultyWire, settle: Callable[[Holdings], object]
) -> None:
    held = claims(store, holdings)
    holdings.ended.extend(map(succeed, held))
    wire.lost = 1
    with pytest.raises(StoreUnavailable):
        settle(holdings)
    assert len(holdings.ended) == 2 == len(holdings.entries())
    holdings.start_over()
    assert list(holdings.again) == []  # judged anew, they would run twice
    holdings.settle_ended()
    assert statuses(store, held) == ["succeeded", "succeeded"]
    assert {document.task.revision for one in held if (document := store.read(one.entry.uid))} == {3}


def times_out(held: Held) -> Held:
    held.transition = outcomes.after_error(TimedOut(), time.time(), 0.1, None)
    return held


def fail(held: Held) -> Held:
    held.transition = outcomes.after_error(ValueError("no stock"), time.time(), 0.1, "e-1")
    return held


def break_down(held: Held) -> Held:
    held.transition = lambda task: moments.stamp(1e18) and task
    return held


@pytest.mark.parametrize("end", [succeed, fail, times_out, break_down])
def test_an_outcome_whose_answer_is_lost_is_reported_once(
    store: Store, wire: FaultyWire, end: Callable[[Held], Held]
) -> None:
    told = Told()
    holdings = Holdings(store, Report(told))
    held = claims(store, holdings)
    holdings.ended.extend(map(end, held))
    wire.lost = 1
    with pytest.raises(StoreUnavailable):
        holdings.settle_ended()
    holdings.settle_ended()
    assert sorted(told.uids) == sorted(one.entry.uid for one in held)
    assert {entry.uid for entry in holdings.again} == set(told.uids)


def test_an_outcome_goes_into_the_document_as_it_is_now_while_the_claim_is_ours(
    store: Store, holdings: Holdings
) -> None:
    [held] = claims(store, holdings, 1)
    store.change(held.entry.uid, lambda task: transitions.started(task, moments.stamp(0)))
    holdings.ended.append(succeed(held))
    holdings.settle_ended()
    assert statuses(store, [held]) == [SUCCEEDED]
    assert holdings.entries() == [] == list(holdings.again)


@pytest.mark.parametrize("failure", [MemoryError(), KeyboardInterrupt()])
def test_an_outcome_is_kept_whatever_cuts_its_settlement_short(
    store: Store, holdings: Holdings, wire: FaultyWire, failure: BaseException
) -> None:
    held = claims(store, holdings)
    holdings.ended.extend(map(succeed, held))
    wire.failure = failure
    with pytest.raises(type(failure)):
        holdings.settle_ended()
    assert list(holdings.ended) == held
    wire.failure = None
    holdings.settle_ended()
    assert statuses(store, held) == ["succeeded", "succeeded"]


def test_a_settlement_after_a_cancel_is_looked_at_again(store: Store, holdings: Holdings) -> None:
    [held] = claims(store, holdings, 1)
    store.change(held.entry.uid, lambda task: transitions.cancelled(task, moments.stamp(time.time())))
    holdings.ended.append(succeed(held))
    holdings.settle_ended()
    assert statuses(store, [held]) == ["cancelled"]
    assert [entry.id for entry in holdings.again] == [held.entry.id]
    assert len(holdings.entries()) == 1


def test_what_is_no_task_any_more_holds_up_nobody(server: RedisServer, store: Store, holdings: Holdings) -> None:
    first, second = (succeed(held) for held in claims(store, holdings))
    with server.client() as raw:
        raw.set(first.entry.uid, b'{"uid": 5}')
    holdings.ended.extend((first, second))
    holdings.settle_ended()
    assert not holdings.ended and list(holdings.again) == [first.entry]
    assert statuses(store, [second]) == [SUCCEEDED]


def test_what_another_claim_has_is_let_go(store: Store, holdings: Holdings) -> None:
    [held] = claims(store, holdings, 1)
    [taken] = store.queues.take(held.entry.stream, 0, "other", dead="me", idle_ms=0, count=9)
    theirs = Claim(consumer="other", token="theirs", stream=taken.stream, entry=taken.id)
    document = store.read(held.entry.uid)
    assert document is not None
    store.move(
        [Change(document.text, document.task, transitions.claimed(document.task, theirs), taken)], consumer="other"
    )
    holdings.ended.append(succeed(held))
    holdings.settle_ended()
    assert statuses(store, [held]) == ["running"]
    assert holdings.entries() == [] == list(holdings.again)


def test_a_hand_back_that_is_not_answered_is_looked_at_again(
    store: Store, holdings: Holdings, wire: FaultyWire
) -> None:
    holdings.waiting.extend(claims(store, holdings))
    wire.lost = 1
    with pytest.raises(StoreUnavailable):
        holdings.hand_back_waiting()
    assert len(holdings.again) == 2 == len(holdings.entries())


def test_so_is_one_that_is_refused(store: Store, holdings: Holdings) -> None:
    held = claims(store, holdings)
    cancelled = held[0]
    store.change(cancelled.entry.uid, lambda task: transitions.cancelled(task, moments.stamp(time.time())))
    holdings.waiting.extend(held)
    holdings.hand_back_waiting()
    assert statuses(store, held) == ["cancelled", "queued"]
    assert [entry.uid for entry in holdings.again] == [cancelled.entry.uid] == [e.uid for e in holdings.entries()]


def test_an_outcome_that_cannot_be_written_down_fails_its_task_alone(store: Store, holdings: Holdings) -> None:
    broken, fine = held = claims(store, holdings)
    holdings.ended.extend([break_down(broken), succeed(fine)])
    holdings.settle_ended()
    assert statuses(store, held) == ["failed", "succeeded"]
