"""What is kept beside a document: its task's log, and the attempts of which it tells no more."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from service.store import Change, Document, Store, keys
from service.tasks import moments, transitions
from service.tasks.attempts import Attempt
from service.tasks.document import NULL, QUEUED, Claim, Task, TaskError
from service.tasks.lines import MOST_BYTES, MOST_LINES, Portion
from service.tasks.uid import random_prefix
from tests.servers import RedisServer

NOW = moments.stamp(1_700_000_000.0)
LATER = moments.stamp(1_700_000_002.0)
ERROR = TaskError("ValueError", "no", "e1")
RETENTION_MS = 7 * 86_400_000


def line(number: int, text: str = "") -> bytes:
    return msgspec.json.encode((number, "info", 1, text or f"line {number}"))


def portion(*numbers: int, skipped: int = 0) -> Portion:
    return Portion([line(number) for number in numbers], skipped)


def claim(number: int = 1) -> Claim:
    return Claim(f"host:boot:{number}:x", f"t{number}", "sandbox:{0}:queue:default", f"{number}-1")


@pytest.fixture
def uid(store: Store) -> str:
    uid = store.uid(random_prefix())
    store.create([Task(uid=uid, type="t", queue="default", status=QUEUED, created_at=NOW)])
    return uid


def change(store: Store, uid: str, transition: Callable[[Task], Task], **more: Any) -> Task:
    found = store.read(uid)
    assert found is not None
    moved = store.move([Change(found.text, found.task, transition(found.task), **more)])
    [(_, document)] = moved.stored
    return document.task


def claimed(store: Store, uid: str, number: int = 1, **how: Any) -> Task:
    return change(store, uid, lambda task: transitions.claimed(task, claim(number), **how))


def succeeded(store: Store, uid: str, **more: Any) -> Task:
    return change(store, uid, lambda task: transitions.succeeded(task, NULL, NOW, LATER, 2.0), **more)


def failed(store: Store, uid: str, error: TaskError = ERROR) -> Task:
    return change(store, uid, lambda task: transitions.failed(task, error, NOW, LATER, 2.0))


def retried(store: Store, uid: str, error: TaskError = ERROR) -> None:
    change(store, uid, lambda task: transitions.retried(task, error, NOW, 2.0, LATER))
    change(store, uid, transitions.promoted)


def numbers(store: Store, uid: str, *query: int) -> list[int]:
    return [each.number for each in store.logbook.read(uid, *query).lines]


def lives(server: RedisServer, uid: str) -> list[int]:
    """For how long the document, its log and its attempts live, in ms; -1 for ever, -2 for what is not there."""
    client = server.client()
    return [client.pttl(key) for key in (uid, keys.log(0, uid), keys.attempts(0, uid))]


# --- the log ---------------------------------------------------------------------------------------


def test_lines_are_read_in_their_order_from_any_of_them_on(store: Store, uid: str) -> None:
    store.logbook.write([(uid, portion(1, 2, 3)), (uid, portion(4))])
    logged = store.logbook.read(uid)
    assert [(each.number, each.at, each.level, each.attempt, each.text) for each in logged.lines][:2] == [
        (1, 1, "info", 1, "line 1"), (2, 2, "info", 1, "line 2"),
    ]  # fmt: skip
    assert (logged.last, logged.dropped) == (4, 0)
    assert [numbers(store, uid, 2), numbers(store, uid, 0, 3), numbers(store, uid, 4)] == [[3, 4], [1, 2, 3], []]


def test_the_newest_lines_stay_and_the_others_are_counted(store: Store, uid: str) -> None:
    store.logbook.write([(uid, portion(*range(600)))])
    store.logbook.write([(uid, portion(*range(600, 1200), skipped=50))])
    logged = store.logbook.read(uid)
    assert (len(logged.lines), logged.last, logged.dropped) == (MOST_LINES, 1250, 250)
    assert logged.lines[0].text == "line 200" and logged.lines[-1].number == 1250
    store.logbook.write([(uid, portion(*range(2000, 2000 + MOST_LINES)))])
    logged = store.logbook.read(uid)
    assert (len(logged.lines), logged.last, logged.lines[0].text) == (MOST_LINES, 2250, "line 2000")


def test_so_many_bytes_stay(store: Store, uid: str) -> None:
    for number in range(100):
        store.logbook.write([(uid, Portion([line(number, "x" * 8000)], 0))])
    logged = store.logbook.read(uid)
    kept = sum(len(line(each.at, each.text)) for each in logged.lines)
    assert MOST_BYTES - 8100 < kept <= MOST_BYTES
    assert logged.lines[-1].at == 99 and logged.dropped == 100 - len(logged.lines)


def test_what_is_sent_twice_is_stored_once(store: Store, uid: str) -> None:
    for each in (portion(1, 2), portion(1, 2), portion(3), portion(3)):
        store.logbook.write([(uid, each)])
    assert [each.text for each in store.logbook.read(uid).lines] == ["line 1", "line 2", "line 3"]


def test_without_a_document_nothing_is_stored(store: Store, server: RedisServer) -> None:
    uid = store.uid(random_prefix())
    store.logbook.write([(uid, portion(1))])
    assert server.client().dbsize() == 0
    assert store.logbook.read(uid) == ([], 0, 0) == store.logbook.read("0" * 64)


# --- how long they live ------------------------------------------------------------------------------


def test_log_and_attempts_live_as_long_as_the_document(store: Store, server: RedisServer, uid: str) -> None:
    claimed(store, uid)
    store.logbook.write([(uid, portion(1))])
    retried(store, uid)
    assert lives(server, uid) == [-1, -1, -1]
    claimed(store, uid, 2)
    failed(store, uid)
    assert all(RETENTION_MS - 60_000 < left <= RETENTION_MS for left in lives(server, uid))
    change(store, uid, transitions.requeued)
    assert lives(server, uid) == [-1, -1, -1]
    store.change(uid, lambda task: transitions.cancelled(task, NOW))
    assert min(lives(server, uid)) > RETENTION_MS - 60_000
    store.purge(uid)
    assert lives(server, uid) == [-2, -2, -2]


def test_what_a_cancelled_handler_says_last_goes_with_the_document(store: Store, server: RedisServer, uid: str) -> None:
    store.change(uid, lambda task: transitions.cancelled(task, NOW))
    store.logbook.write([(uid, portion(1))])
    document, log, _ = lives(server, uid)
    assert document - 5_000 < log <= document


def test_a_first_attempt_that_has_said_something_is_no_exception(store: Store, server: RedisServer, uid: str) -> None:
    claimed(store, uid)
    store.logbook.write([(uid, portion(1))])
    succeeded(store, uid, has_log=True)
    assert lives(server, uid)[1] > 0


def test_a_task_that_says_nothing_costs_nothing(store: Store, server: RedisServer, uid: str) -> None:
    claimed(store, uid)
    succeeded(store, uid)
    used = server.client().info("commandstats")
    assert not {"cmdstat_pexpire", "cmdstat_persist", "cmdstat_rpush", "cmdstat_xrevrange"} & used.keys()


def test_the_sweep_removes_what_an_older_release_has_left(store: Store, server: RedisServer, uid: str) -> None:
    claimed(store, uid)
    store.logbook.write([(uid, portion(1))])
    retried(store, uid)
    server.client().delete(uid)
    store.index.sweep([0], created_before=2**60, count=10, places={})
    assert lives(server, uid) == [-2, -2, -2]


# --- attempts --------------------------------------------------------------------------------------


def told(store: Store, uid: str) -> list[tuple[int, str | None, str | None]]:
    return [(each.attempt, each.outcome, each.runner) for each in store.logbook.attempts(uid)[1]]


def test_each_attempt_is_told_of_once(store: Store, uid: str) -> None:
    assert told(store, uid) == []
    claimed(store, uid)
    assert told(store, uid) == [(1, None, claim().consumer)]
    retried(store, uid)
    claimed(store, uid, 2)
    change(store, uid, lambda task: transitions.handed_back(task, ran=True))
    claimed(store, uid, 3)
    claimed(store, uid, 4, crashed=True)
    retried(store, uid, TaskError("TimedOut", "too long"))
    claimed(store, uid, 5)
    succeeded(store, uid)
    outcomes = [(1, "retried"), (2, "handed_back"), (3, "crashed"), (4, "timed_out"), (5, "succeeded")]
    assert told(store, uid) == [(number, outcome, claim(number).consumer) for number, outcome in outcomes]


def test_an_attempt_is_told_with_its_times_and_its_error(store: Store, uid: str) -> None:
    claimed(store, uid)
    retried(store, uid)
    claimed(store, uid, 2)
    failed(store, uid, TaskError("Reject", "never"))
    runner = claim().consumer
    times = {"started_at": NOW, "finished_at": LATER, "duration": 2.0}
    error = {"type": "ValueError", "message": "no", "event_id": "e1"}
    rejected = {"type": "Reject", "message": "never", "event_id": None}
    assert store.logbook.attempts(uid)[1] == [
        Attempt(attempt=1, runner=runner, outcome="retried", error=error, **times),
        Attempt(attempt=2, runner=claim(2).consumer, outcome="rejected", error=rejected, **times),
    ]


def test_a_crash_is_told_with_the_id_of_its_report(store: Store, uid: str) -> None:
    claimed(store, uid)
    change(store, uid, lambda task: transitions.started(task, NOW))
    change(store, uid, lambda task: transitions.claimed(task, claim(2), crashed=True), event_id="e7")
    [crash, now] = store.logbook.attempts(uid)[1]
    assert (crash.started_at, crash.outcome, now.outcome) == (NOW, "crashed", None)
    assert crash.error == {"type": "Crashed", "message": "its runner died while it ran this task", "event_id": "e7"}


def test_what_has_not_run_is_no_attempt(store: Store, uid: str) -> None:
    claimed(store, uid)
    change(store, uid, lambda task: transitions.handed_back(task, ran=False))
    assert told(store, uid) == []
    claimed(store, uid, 2)
    claimed(store, uid, 3)  # taken over before its handler had started: still the same attempt
    assert told(store, uid) == [(1, None, claim(3).consumer)]
    retried(store, uid)
    store.change(uid, lambda task: transitions.cancelled(task, NOW))
    assert told(store, uid) == [(1, "retried", claim(3).consumer)]


def test_a_clients_retry_keeps_what_was(store: Store, uid: str) -> None:
    claimed(store, uid)
    store.change(uid, lambda task: transitions.cancelled(task, LATER))
    store.change(uid, transitions.requeued)
    claimed(store, uid, 2)
    failed(store, uid)
    store.change(uid, transitions.requeued)
    claimed(store, uid, 3)
    succeeded(store, uid)
    assert [outcome for _, outcome, _ in told(store, uid)] == ["cancelled", "failed", "succeeded"]


def test_a_hundred_earlier_attempts_stay(store: Store, uid: str) -> None:
    for number in range(1, 105):
        claimed(store, uid, number)
        retried(store, uid)
    attempts = [attempt for attempt, _, _ in told(store, uid)]
    assert attempts == [*range(5, 105)]


def test_a_refused_change_tells_of_nothing(store: Store, uid: str) -> None:
    before = claimed(store, uid)
    found = store.read(uid)
    assert found is not None
    after = transitions.retried(before, ERROR, NOW, 2.0, LATER)
    stale = Document(before, found.text + b" ")
    assert store.move([Change(stale.text, before, after)]).stored == []
    assert told(store, uid) == [(1, None, claim().consumer)]
