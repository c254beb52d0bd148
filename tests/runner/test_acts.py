"""Acts on many tasks, carried out by real runners: killed, cancelled, audited."""

import json
import signal
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pytest

from service.cli.acts import Acts
from service.errors import StoreUnavailable
from service.observe.audit import AuditLog
from service.observe.metrics import Metrics
from service.tasks import transitions
from service.tasks.declare import CANCEL_MANY, RETRY_MANY
from service.tasks.document import FAILED, Task
from tests.runner.crew import Crew
from tests.servers import BUSY, eventually

LONG_AGO = "2026-03-01T12:00:00.000000Z"


def asked(crew: Crew, deed: str, **only: Any) -> str:
    [uid] = crew.create(deed, args={"filter": only}, created_by="alice", request_id="r-1", max_attempts=20)
    return uid


def failed(crew: Crew, count: int) -> list[Task]:
    """In a queue that nobody serves: once retried, they wait."""
    made: list[Task] = []
    for _ in range(0, count, 500):
        made += crew.new("echo", count=min(500, count), queue="elsewhere")
    for task in made:
        task.status, task.finished_at = FAILED, LONG_AGO
    for start in range(0, count, 500):
        crew.store.create(made[start : start + 500])
    return made


def revisions(crew: Crew, tasks: list[Task]) -> list[tuple[str, int]]:
    found = crew.store.read_many([task.uid for task in tasks])
    return [(each.task.status, each.task.revision) for each in found if each]


def result(task: Task) -> Any:
    return json.loads(bytes(task.result))


def test_a_runner_retries_all_that_the_filter_admits_and_says_how_many(crew: Crew) -> None:
    tasks = failed(crew, 300)
    crew.start()
    done = crew.finished(asked(crew, RETRY_MANY, status=["failed"], queue=["elsewhere"]), 10 * BUSY)
    assert result(done) == {"changed": 300, "left_out": {}}
    assert revisions(crew, tasks) == [("queued", 2)] * 300


def test_each_task_that_it_changes_is_a_line_of_the_audit_log(crew: Crew) -> None:
    tasks = failed(crew, 3)
    crew.start()
    uid = asked(crew, RETRY_MANY, status=["failed"])
    crew.finished(uid, 10 * BUSY)
    lines = [json.loads(line) for line in (crew.home / "log" / "audit.log").read_text().splitlines()]
    assert {line["uid"] for line in lines} == {task.uid for task in tasks}
    assert {(line["did"], line["by"], line["from"], line["request_id"]) for line in lines} == {
        ("requeued", "alice", f"task {uid}", "r-1")
    }


def test_each_task_that_it_changes_is_counted_by_the_metrics(crew: Crew) -> None:
    events: Counter[str] = Counter()

    class Told(Metrics):
        def changed(self, event: str, tasks: Sequence[Task]) -> None:
            events[event] += len(tasks)

    failed(crew, 3)
    acts = Acts(crew.store, AuditLog(crew.home, "runner"), Told())
    for act in (acts.retry, acts.cancel):
        list(act(asked(crew, RETRY_MANY), {"queue": ["elsewhere"]}))
    assert events == {"requeued": 3, "cancelled": 3}


@pytest.mark.parametrize("what", ["note", "history"])
def test_each_one_is_told_once_though_redis_is_away_for_a_moment(
    crew: Crew, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    class Fleeting:
        """Fails once, at the second call."""

        def __init__(self, whose: Any, name: str) -> None:
            self._call, self.left = getattr(whose, name), 2
            monkeypatch.setattr(whose, name, self)

        def __call__(self, *words: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                raise StoreUnavailable("away for a moment")
            return self._call(*words)

    events: Counter[str] = Counter()

    class Told(Metrics):
        def changed(self, event: str, tasks: Sequence[Task]) -> None:
            events.update(task.uid for task in tasks)

    tasks = crew.new("echo", count=250, queue="elsewhere")
    crew.store.create(tasks)
    fleeting = Fleeting(*((crew.store, "note") if what == "note" else (crew.store.history, "cancelled")))
    acts, uid = Acts(crew.store, AuditLog(crew.home, "runner"), Told()), asked(crew, CANCEL_MANY)
    for _ in range(2):  # the attempts of the act
        with suppress(StoreUnavailable):
            list(acts.cancel(uid, {"queue": ["elsewhere"]}))
    assert fleeting.left <= 0
    lines = [json.loads(line) for line in (crew.home / "audit.log").read_text().splitlines()]
    assert {status for status, _ in revisions(crew, tasks)} == {"cancelled"}
    assert sorted(line["uid"] for line in lines) == sorted(task.uid for task in tasks)
    assert events == Counter(task.uid for task in tasks)


def test_killed_in_the_middle_it_is_finished_by_another_runner_and_nothing_is_changed_twice(crew: Crew) -> None:
    tasks = failed(crew, 6000)
    crew.start(2)
    uid = asked(crew, RETRY_MANY, status=["failed"], queue=["elsewhere"])
    eventually(lambda: crew.store.noted(uid), 10 * BUSY, pause=0.001)
    claim = crew.read(uid).claim
    assert claim is not None
    at_it = next(runner for runner in crew.runners if claim.consumer.split(":")[2] == str(runner.pid))
    at_it.send_signal(signal.SIGKILL)
    assert crew.read(uid).status == "running"

    done = crew.finished(uid, 30 * BUSY)

    assert (done.status, done.crashes) == ("succeeded", 1)
    assert revisions(crew, tasks) == [("queued", 2)] * 6000
    assert 6000 - 100 <= result(done)["changed"] <= 6000


def test_a_cancelled_one_stops_between_two_batches(crew: Crew) -> None:
    tasks = failed(crew, 6000)
    crew.start()
    uid = asked(crew, RETRY_MANY, status=["failed"], queue=["elsewhere"])
    eventually(lambda: crew.store.noted(uid), 10 * BUSY, pause=0.001)
    crew.store.change(uid, lambda task: transitions.cancelled(task, LONG_AGO))
    eventually(lambda: not any(each.executing for each in crew.store.roster.at_work()), 10 * BUSY)
    then = revisions(crew, tasks)
    assert crew.read(uid).status == "cancelled"
    assert 0 < then.count(("queued", 2)) < 6000 and set(then) == {("queued", 2), ("failed", 1)}


def test_what_it_cancels_is_cancelled_running_or_not_and_stands_in_the_history(crew: Crew) -> None:
    crew.start(threads=2)
    [running] = crew.create("nap", args={"seconds": 600})
    waits = crew.create("echo", queue="elsewhere", count=3)
    crew.running(running, 10 * BUSY)
    done = crew.finished(asked(crew, CANCEL_MANY, type=["nap", "echo"]), 10 * BUSY)
    assert result(done) == {"changed": 4, "left_out": {}}
    assert {crew.read(uid).status for uid in (running, *waits)} == {"cancelled"}
    assert crew.store.history.in_all()["elsewhere/echo"][3] == 3


def test_a_filter_that_cannot_be_read_is_rejected(crew: Crew) -> None:
    crew.start()
    task = crew.finished(asked(crew, CANCEL_MANY, stauts=["failed"]), 10 * BUSY)
    assert task.status == "failed" and task.error is not None and "stauts" in task.error.message
