"""Pause, stuck types, priorities and weights, with real runners."""

import time
from collections import Counter
from collections.abc import Sequence

from service.store import QUEUE, TYPE, Pause, Store, stuck
from service.tasks import moments, transitions
from service.tasks.document import PRIORITIES, Task
from tests.runner.crew import Crew
from tests.servers import BUSY, eventually

OTHERS_ONLY = "service.builtin.demo"  # a release that lacks the types of tests/runner/handlers.py


def pause(store: Store, kind: str, name: str, seconds: float | None = None) -> None:
    now = time.time()
    until = None if seconds is None else moments.stamp(now + seconds)
    store.pauses.pause(kind, name, Pause(None, moments.stamp(now), until, None))


def in_order(tasks: Sequence[Task]) -> list[Task]:
    return sorted(tasks, key=lambda task: (task.finished_at or "", task.started_at or ""))


class TestPause:
    def test_an_idle_runner_starts_nothing_of_a_queue_that_was_paused_while_it_waited(self, crew: Crew) -> None:
        crew.start(count=2, queues="default,other")
        assert crew.finished(crew.create("echo")[0]).status == "succeeded"  # they wait in Redis now
        pause(crew.store, QUEUE, "default")
        uids = crew.create("echo", count=5)
        [other] = crew.create("echo", queue="other")
        assert crew.finished(other).status == "succeeded"
        assert {crew.read(uid).status for uid in uids} == {"queued"}
        crew.store.pauses.resume(QUEUE, "default")
        assert {crew.finished(uid).attempt for uid in uids} == {1}

    def test_what_runs_goes_on_and_what_waits_behind_it_does_not_start(self, crew: Crew) -> None:
        crew.start()
        [running] = crew.create("sleep", args={"seconds": 1.5})
        crew.running(running)
        pause(crew.store, QUEUE, "default")
        uids = crew.create("echo", count=3)
        assert crew.finished(running).status == "succeeded"
        assert {crew.read(uid).status for uid in uids} == {"queued"}

    def test_tasks_of_a_paused_type_cost_nothing_while_they_wait_and_all_come_back(self, crew: Crew) -> None:
        crew.start()
        assert crew.finished(crew.create("nap", args={"seconds": 0})[0]).status == "succeeded"
        pause(crew.store, TYPE, "nap")
        paused, others = crew.create("nap", count=300, args={"seconds": 0}), crew.create("echo", count=20)
        assert {crew.finished(uid).status for uid in others} == {"succeeded"}
        eventually(lambda: sum(lot.tasks for lot in crew.store.lots.now()) == 300)
        assert {crew.read(uid).revision for uid in paused} == {1}  # nobody has touched the documents

        crew.store.pauses.resume(TYPE, "nap")
        assert {crew.finished(uid).attempt for uid in paused} == {1}
        assert crew.store.lots.now() == []

    def test_due_and_retried_tasks_of_a_paused_type_wait_too(self, crew: Crew) -> None:
        crew.start()
        pause(crew.store, TYPE, "echo")
        [due] = crew.create("echo", run_at=moments.stamp(time.time() - 1))
        [again] = crew.create("echo")
        crew.store.change(again, lambda task: transitions.cancelled(task, moments.stamp(time.time())))
        crew.store.change(again, transitions.requeued)
        eventually(lambda: sum(lot.tasks for lot in crew.store.lots.now()) == 2)
        assert [crew.read(uid).status for uid in (due, again)] == ["queued", "queued"]

    def test_a_pause_with_a_time_ends_by_itself(self, crew: Crew) -> None:
        crew.start(queues="default,other")
        assert crew.finished(crew.create("nap", args={"seconds": 0})[0]).status == "succeeded"
        pause(crew.store, QUEUE, "other", seconds=1.0)
        pause(crew.store, TYPE, "nap", seconds=1.0)
        uids = [*crew.create("echo", queue="other"), *crew.create("nap", args={"seconds": 0})]
        assert {crew.finished(uid).status for uid in uids} == {"succeeded"}


class TestAStuckType:
    def test_its_tasks_wait_at_no_cost_and_come_back_with_a_runner_that_knows_it(self, crew: Crew) -> None:
        crew.start(tasks=OTHERS_ONLY, stuck=1)
        uids = crew.create("returns", count=200, args={"what": "tuple"})
        stuck_store = Store(crew.store._wire, known_seconds=1)
        eventually(lambda: sum(lot.tasks for lot in stuck(stuck_store.lots.now())) == 200, 30)
        assert {crew.read(uid).status for uid in uids} == {"queued"}
        revisions = [crew.read(uid).revision for uid in uids]
        [cancelled, *others] = uids
        crew.store.change(cancelled, lambda task: transitions.cancelled(task, moments.stamp(time.time())))
        assert sum(lot.tasks for lot in stuck_store.lots.now()) == 199
        assert [crew.read(uid).revision for uid in others] == revisions[1:]  # nobody moves them any more

        crew.start(stuck=1)
        assert {crew.finished(uid, 20 * BUSY).status for uid in others} == {"succeeded"}
        assert eventually(lambda: crew.store.lots.now() == [])

    def test_a_type_that_another_runner_knows_is_never_parked(self, crew: Crew) -> None:
        crew.start(tasks=OTHERS_ONLY, stuck=600)
        crew.start(stuck=600)
        uids = crew.create("returns", count=50, args={"what": "tuple"})
        assert {crew.finished(uid, 30).status for uid in uids} == {"succeeded"}
        assert crew.store.lots.now() == []


class TestOrder:
    def test_priorities_share_a_full_queue_seven_two_one_and_none_starves(self, crew: Crew) -> None:
        made = [crew.new("echo", count=2000, priority=priority) for priority in reversed(PRIORITIES)]
        for tasks in made:
            crew.store_all(tasks[:1000])
            crew.store_all(tasks[1000:])
        crew.start()
        first = self._first_to_finish(crew, [task for tasks in made for task in tasks], 1800)
        counts = Counter(task.priority for task in first)
        assert 1050 < counts["high"] < 1450 and 200 < counts["normal"] < 560 and 60 < counts["low"] < 340, counts

    def test_weighted_queues_share_as_their_weights_say_while_all_are_full(self, crew: Crew) -> None:
        weights = {"critical": 5, "default": 2, "bulk": 1}
        made = [crew.new("echo", count=2000, queue=queue) for queue in reversed(weights)]
        for tasks in made:
            crew.store_all(tasks[:1000])
            crew.store_all(tasks[1000:])
        crew.start(queues="critical:5,default:2,bulk:1")
        first = self._first_to_finish(crew, [task for tasks in made for task in tasks], 1600)
        counts = Counter(task.queue for task in first)
        for queue, weight in weights.items():
            assert abs(counts[queue] - 200 * weight) < 140, counts

    def _first_to_finish(self, crew: Crew, made: Sequence[Task], count: int) -> list[Task]:
        tasks = [crew.finished(task.uid, 60) for task in made]
        return in_order(tasks)[:count]
