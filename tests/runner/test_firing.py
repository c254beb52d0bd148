"""Runners create the tasks of schedules."""

import logging
import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from service.errors import StoreUnavailable
from service.observe.metrics import Metrics
from service.runner import firing as the_firing
from service.runner.firing import Firing
from service.store import SCRIPTS, Change, Store
from service.store import schedules as the_schedules
from service.store.connection import Command, Wire, connect
from service.tasks import moments, schedule, transitions
from service.tasks.declare import marked_type, task
from service.tasks.document import CANCELLED, HIGH, NULL, QUEUED, RUNNING, SCHEDULED, Claim, Task
from service.tasks.limit_rule import LimitRule
from service.tasks.registry import Registry
from service.tasks.schedule import API, CODE, Schedule, Terms
from tests.runner.crew import Crew
from tests.runner.wires import FaultyWire
from tests.servers import RedisCluster, RedisServer, eventually

HOUR = 3600 * 1_000_000


class Told(Metrics):
    def __init__(self) -> None:
        self.schedules: list[tuple[str, str, int]] = []
        self.tasks: list[str] = []

    def schedule(self, name: str, event: str, count: int) -> None:
        self.schedules.append((name, event, count))

    def changed(self, event: str, tasks: Any) -> None:
        self.tasks += [event] * len(tasks)


def registry(*, plan: Any = None, **options: Any) -> Registry:
    @task("echo", schedule=plan, **options)
    def echo(context: Any, message: str = "") -> str:
        return message

    found = marked_type(echo)
    assert found is not None
    return Registry([found])


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def firing(store: Store, told: Told) -> Firing:
    return Firing(store, registry=registry(), metrics=told)


def put(store: Store, name: str = "one", type: str = "echo", source: str = API, **plan: Any) -> None:
    wanted = Terms(type=type, **({"every": 3600.0} | plan))

    def as_wanted(before: Schedule | None, now: int) -> Schedule:
        return schedule.put(before, name, wanted, paused=False, source=source, now=now, by=None)

    store.schedules.change(name, as_wanted)


def ripen(store: Store, name: str = "one", seconds: float = 1.0) -> str:
    found = store.schedules.read(name)
    assert found is not None and found.schedule is not None
    now, after = store.schedules.now(), schedule.decode(found.text)
    at = now - int(seconds * 1_000_000)
    after.next_at, after.anchor = moments.stamp_exactly(at), moments.stamp_exactly(at - HOUR)
    after.revision += 1
    assert store.schedules.replace(name, found.text, after, now)
    return after.next_at


def read(store: Store, name: str = "one") -> Schedule:
    found = store.schedules.read(name)
    assert found is not None and found.schedule is not None
    return found.schedule


def look(store: Store, firing: Firing) -> None:
    store.promote(0, 10)
    firing.fire()


def tasks(store: Store) -> list[Task]:
    """The newest first."""
    return list(store.index.page(limit=100)[0])


def finish(store: Store, uid: str) -> None:
    found = store.read(uid)
    assert found is not None
    now = moments.stamp(time.time())
    assert store.move([Change(found.text, found.task, transitions.succeeded(found.task, NULL, now, now, 0.1))]).stored


# --- what is created -----------------------------------------------------------------------------


def test_a_task_is_created_as_its_type_and_the_schedule_say(store: Store, told: Told) -> None:
    types = registry(queue="reports", max_attempts=7, timeout=12.0, priority=HIGH)
    put(store, args=msgspec.Raw(b'{"message":"good morning"}'))
    at = ripen(store)
    look(store, Firing(store, registry=types, metrics=told))

    [made] = tasks(store)
    assert (made.type, made.queue, made.max_attempts, made.timeout, made.priority) == ("echo", "reports", 7, 12.0, HIGH)
    assert (made.status, made.schedule, made.scheduled_for) == (QUEUED, "one", at)
    assert bytes(made.args) == b'{"message":"good morning"}'
    assert (told.schedules, told.tasks) == ([("one", "fired", 1)], ["created"])


def test_nothing_is_created_before_its_time_nor_twice(store: Store, firing: Firing) -> None:
    put(store)
    look(store, firing)
    assert tasks(store) == []
    ripen(store)
    for _ in range(3):
        look(store, firing)
    assert len(tasks(store)) == 1


def test_the_schedule_may_name_the_queue_and_put_its_tasks_off(store: Store, firing: Firing) -> None:
    put(store, queue="reports", jitter=86400.0)
    at = ripen(store)
    look(store, firing)
    [made] = tasks(store)
    assert (made.queue, made.status, made.scheduled_for) == ("reports", SCHEDULED, at)
    assert made.run_at is not None and at < made.run_at
    assert store.promote(0, 10) == 0


@pytest.mark.parametrize("count", [2, 10])
def test_of_runners_that_look_at_the_same_time_one_creates_the_task(store: Store, told: Told, count: int) -> None:
    runners = [Firing(store, registry=registry(), metrics=told) for _ in range(count)]
    for turn in range(1, 4):
        put(store)
        ripen(store)
        store.promote(0, 10)
        threads = [threading.Thread(target=runner.fire) for runner in runners]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for each in tasks(store):
            if not each.finished:
                finish(store, each.uid)
        assert (len(tasks(store)), read(store).fired, len(told.schedules)) == (turn, turn, turn)


# --- what is missed, and what overlaps ----------------------------------------------------------


def test_what_was_missed_is_told(store: Store, firing: Firing, told: Told, caplog: pytest.LogCaptureFixture) -> None:
    put(store)
    at = ripen(store, seconds=400)
    with caplog.at_level(logging.WARNING):
        look(store, firing)
    assert tasks(store) == []
    assert told.schedules == [("one", "missed", 1)] and read(store).missed == 1
    assert f"schedule one has missed 1 times from {at} on" in caplog.text


def begun(store: Store, firing: Firing, **plan: Any) -> str:
    """A schedule whose last task has not ended."""
    put(store, **plan)
    ripen(store, seconds=2)
    look(store, firing)
    [made] = tasks(store)
    return made.uid


def test_skip(store: Store, firing: Firing, told: Told) -> None:
    uid = begun(store, firing)
    ripen(store)
    look(store, firing)
    assert len(tasks(store)) == 1 and read(store).skipped == 1
    assert told.schedules == [("one", "fired", 1), ("one", "skipped", 1)]
    finish(store, uid)
    ripen(store)
    look(store, firing)
    assert len(tasks(store)) == 2


def test_allow(store: Store, firing: Firing) -> None:
    begun(store, firing, overlap="allow")
    ripen(store)
    look(store, firing)
    assert [each.status for each in tasks(store)] == [QUEUED, QUEUED]


def test_cancel(store: Store, firing: Firing, told: Told) -> None:
    uid = begun(store, firing, overlap="cancel")
    found, [entry] = store.read(uid), store.queues.fetch(0, ["default"], "a", 1)
    assert found is not None
    claim = Claim("a", "t", entry.stream, entry.id)
    store.move([Change(found.text, found.task, transitions.claimed(found.task, claim), entry)], consumer="a")
    assert tasks(store)[0].status == RUNNING
    ripen(store)
    look(store, firing)
    assert [each.status for each in tasks(store)] == [QUEUED, CANCELLED]
    assert told.tasks == ["created", "cancelled", "created"]


def test_queue(store: Store, firing: Firing) -> None:
    uid = begun(store, firing, overlap="queue")
    at = ripen(store)
    look(store, firing)
    ripen(store, seconds=0.5)
    look(store, firing)
    assert (len(tasks(store)), read(store).waiting, read(store).skipped) == (1, at, 1)
    finish(store, uid)

    def second() -> Task | None:
        look(store, firing)
        return next((each for each in tasks(store) if each.uid != uid), None)

    made = eventually(second, 10)
    assert (made.scheduled_for, read(store).waiting) == (at, None)


def test_one_whose_arguments_do_not_fit_any_more_is_not_in_the_way_of_others(
    store: Store, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    firing = Firing(store, registry=registry(unique={"key": {"args": ["message"]}}), metrics=told)
    for name, args in (("bad", b'{"nonsense":1}'), ("good", b'{"message":"b"}')):
        put(store, name, args=msgspec.Raw(args))
        ripen(store, name, seconds=2.0 if name == "bad" else 1.0)
    look(store, firing)
    assert [task.schedule for task in tasks(store)] == ["good"]
    assert (read(store, "bad").skipped, read(store, "good").fired) == (1, 1)
    assert "schedule bad has left out a time: args: Object contains unknown field" in caplog.text


def test_one_that_nobody_can_look_at_is_put_off(
    store: Store, firing: Firing, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("bad", "good"):
        put(store, name)
        ripen(store, name, seconds=2.0 if name == "bad" else 1.0)
    turn = schedule.turn

    def broken(seen: Schedule, *args: Any, **named: Any) -> Any:
        if seen.name == "bad":
            raise ZeroDivisionError
        return turn(seen, *args, **named)

    monkeypatch.setattr(schedule, "turn", broken)
    look(store, firing)
    look(store, firing)
    assert [task.schedule for task in tasks(store)] == ["good"]
    assert caplog.text.count("schedule bad cannot be looked at") == 1


# --- unique keys and limits --------------------------------------------------------------------


def test_a_time_whose_unique_key_another_task_has_is_left_out(store: Store, told: Told) -> None:
    firing = Firing(store, registry=registry(unique={"key": "the only one"}), metrics=told)
    uid = begun(store, firing, overlap="allow")
    ripen(store)
    look(store, firing)
    assert [each.uid for each in tasks(store)] == [uid]
    assert (read(store).fired, read(store).skipped) == (1, 1)
    assert told.schedules == [("one", "fired", 1), ("one", "skipped", 1)]
    finish(store, uid)
    ripen(store)
    look(store, firing)
    assert len(tasks(store)) == 2


def test_a_task_whose_limit_is_reached_waits_at_its_place(store: Store, told: Told) -> None:
    types = registry(limits=("one-at-a-time",))
    store.limits.know(types)
    store.limits.put("one-at-a-time", LimitRule(concurrency=1))
    firing = Firing(store, registry=types, metrics=told)
    begun(store, firing, overlap="allow")
    ripen(store)
    look(store, firing)
    assert len(tasks(store)) == 2
    assert store.limits.waiting() == {"one-at-a-time": 1}


def test_on_several_partitions_a_time_whose_task_belongs_elsewhere_is_left_out(
    cluster: RedisCluster, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    store = Store(connect(cluster.url, SCRIPTS), partitions=4)
    names, types = [f"schedule-{number}" for number in range(12)], registry(unique={"key": "the only one"})
    firing = Firing(store, registry=types, metrics=told)
    for name in names:
        put(store, name)
        ripen(store, name)
    for partition in range(4):
        store.promote(partition, 10)
    firing.fire()
    [made] = tasks(store)
    assert sum(read(store, name).skipped for name in names) == 11
    assert "lies in another partition than the schedule" in caplog.text
    assert made.unique is not None and store.partition(made.uid) == store.unique_keys.home("echo", made.unique)
    store.close()


def move_to(store: Store, timezone: str) -> None:
    found = store.schedules.read("one")
    assert found is not None and found.schedule is not None
    assert store.schedules.replace("one", found.text, msgspec.structs.replace(found.schedule, timezone=timezone), 0)


def test_a_schedule_whose_time_zone_this_host_does_not_know_is_left_to_others(
    store: Store, firing: Firing, told: Told, caplog: pytest.LogCaptureFixture
) -> None:
    put(store, every=None, cron="@hourly")
    ripen(store)
    move_to(store, "Mars/Olympus")
    for _ in range(2):
        look(store, firing)
    said = [record for record in caplog.records if record.name in ("sandbox.runner", "sandbox.store")]
    assert tasks(store) == [] and said == []
    move_to(store, "UTC")  # a host that knows it looks, and has not been put off
    look(store, firing)
    assert len(tasks(store)) == 1

    ripen(store, seconds=400)
    move_to(store, "Mars/Olympus")
    for _ in range(2):
        look(store, firing)
    assert caplog.text.count("schedule one: timezone: 'Mars/Olympus' is no time zone that this host knows") == 1
    assert len(tasks(store)) == 1 and read(store).missed == 0


# --- a partition that is away ------------------------------------------------------------------


class Lame(FaultyWire):
    """A Cluster whose partition 0 may be away."""

    is_away = True

    def call(self, partition: int, *commands: Command, wait_seconds: float = 0, once: bool = False) -> list[Any]:
        if partition == 0 and self.is_away:
            raise StoreUnavailable("partition 0 is away")
        return super().call(partition, *commands, wait_seconds=wait_seconds, once=once)


@task("plain", schedule="@hourly")
def plain(context: Any) -> None: ...


@task("free", schedule="@hourly")
def free(context: Any) -> None: ...


@task("limited", limits=("line",))
def limited(context: Any) -> None: ...


@pytest.fixture
def types() -> Registry:
    return Registry([each for marked in (plain, free, limited) if (each := marked_type(marked))])


@pytest.fixture
def whole(cluster: RedisCluster) -> Iterator[Store]:
    store = Store(connect(cluster.url, SCRIPTS), partitions=4)
    yield store
    store.close()


@pytest.fixture
def lame(cluster: RedisCluster) -> Iterator[Store]:
    store = Store(Lame(cluster.url), partitions=4)
    yield store
    store.close()


def test_a_schedule_that_wants_a_partition_that_is_away_is_not_in_the_way_of_others(
    whole: Store, lame: Store, told: Told, types: Registry
) -> None:
    """Of a limited type, that is the first one."""
    lame.limits.know(types)
    for name, its_type, seconds in (("bad", "limited", 2.0), ("first", "free", 1.0)):
        put(whole, name, its_type)
        ripen(whole, name, seconds=seconds)
    for partition in (1, 2, 3):
        lame.promote(partition, 10)
    firing = Firing(lame, registry=types, metrics=told)
    with pytest.raises(StoreUnavailable):
        firing.fire()
    assert [task.schedule for task in tasks(whole)] == ["first"]

    lame._wire.is_away = False  # type: ignore[attr-defined]
    firing.fire()
    assert {task.schedule for task in tasks(whole)} == {"bad", "first"}


def test_schedules_that_are_left_alone_are_not_in_the_way_of_others_however_many_they_are(
    store: Store, firing: Firing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(the_schedules, "MOST_DUE", 10)
    for number in range(25):
        put(store, f"old{number}", type="gone")
        ripen(store, f"old{number}", seconds=100.0)
    put(store, "mine")
    ripen(store, "mine", seconds=10.0)
    for _ in range(3):  # a third of them each time
        look(store, firing)
    assert [task.schedule for task in tasks(store)] == ["mine"]


@pytest.mark.parametrize("kind", ["one server", "cluster"])
def test_a_partition_that_always_has_something_due_is_not_in_the_way_of_others(
    server: RedisServer, cluster: RedisCluster, told: Told, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setattr(the_firing, "SLICE_SECONDS", 0.0)
    whole = Store(connect(server.url if kind == "one server" else cluster.url, SCRIPTS), partitions=4)
    firing = Firing(whole, registry=registry(), metrics=told)
    names = [f"s{number}" for number in range(12)]
    assert {whole.partition(whole.schedules.uid(name, 0)) for name in names} == {0, 1, 2, 3}
    for name in names:
        put(whole, name, overlap="allow")
    for _ in range(4):
        for name in names:
            ripen(whole, name)
        for partition in range(4):
            whole.promote(partition, 10)
        assert firing.fire(), "there is more to do"
    assert {whole.partition(task.uid) for task in tasks(whole)} == {0, 1, 2, 3}
    whole.close()


def test_schedules_of_the_code_are_told_where_a_partition_is_away(
    whole: Store, lame: Store, told: Told, types: Registry
) -> None:
    firing = Firing(lame, registry=types, metrics=told)
    with pytest.raises(StoreUnavailable):
        firing.tell()
    assert [found.name for found in whole.schedules.all()] == ["free"]
    lame._wire.is_away = False  # type: ignore[attr-defined]
    firing.tell()
    assert [found.name for found in whole.schedules.all()] == ["free", "plain"]


# --- who may create it -------------------------------------------------------------------------


def test_a_runner_without_the_type_leaves_it_to_others_until_it_is_too_late(store: Store, told: Told) -> None:
    stranger = Firing(store, registry=Registry(), metrics=told)
    put(store)
    ripen(store)
    look(store, stranger)
    assert tasks(store) == [] and read(store).missed == 0
    look(store, Firing(store, registry=registry(), metrics=told))
    assert len(tasks(store)) == 1

    ripen(store, seconds=400)
    look(store, stranger)
    assert read(store).missed == 1 and told.schedules[-1] == ("one", "missed", 1)


def test_a_schedule_that_has_left_the_code_creates_nothing(store: Store, told: Told) -> None:
    put(store, "echo", source=CODE)
    ripen(store, "echo")
    look(store, Firing(store, registry=registry(), metrics=told))
    assert tasks(store) == []
    look(store, Firing(store, registry=registry(plan=3600), metrics=told))
    assert len(tasks(store)) == 1


def test_one_that_cannot_be_read_is_not_in_the_way_of_others(store: Store, firing: Firing, wire: Wire) -> None:
    put(store, "bad")
    ripen(store, "bad")
    wire.call(0, ("SET", "sandbox:{0}:schedule:bad", "nonsense"))
    put(store)
    ripen(store)
    look(store, firing)
    assert len(tasks(store)) == 1
    assert [found.name for _, each in store.schedules.due() for found in each] == []


# --- schedules of the code -----------------------------------------------------------------------


def test_a_schedule_of_the_code_is_brought_into_redis_and_kept_as_it_is(store: Store, told: Told) -> None:
    Firing(store, registry=registry(plan="0 3 * * *", timezone="Europe/Prague"), metrics=told).tell()
    one = read(store, "echo")
    assert (one.source, one.type, one.cron, one.timezone) == (CODE, "echo", "0 3 * * *", "Europe/Prague")
    Firing(store, registry=registry(plan="0 3 * * *", timezone="Europe/Prague"), metrics=told).tell()
    assert read(store, "echo") == one


def test_the_release_that_started_last_decides_and_a_pause_stays(store: Store, told: Told) -> None:
    older = Firing(store, registry=registry(plan="0 3 * * *"), metrics=told)
    older.tell()

    def paused(before: Schedule | None, now: int) -> Schedule:
        assert before is not None
        return schedule.paused(before, now=now, by="alice")

    store.schedules.change("echo", paused)
    Firing(
        store, registry=registry(plan={"every": 60, "overlap": "queue", "args": {"message": "x"}}), metrics=told
    ).tell()
    older.tell()
    one = read(store, "echo")
    assert (one.every, one.cron, one.overlap, one.paused, one.changed_by) == (60.0, None, "queue", True, "alice")


def test_what_has_gone_is_brought_back_and_what_a_client_has_made_stays(
    store: Store, told: Told, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    firing = Firing(store, registry=registry(plan=60), metrics=told)
    firing.tell()
    wire.call(0, ("FLUSHALL",))
    firing.tell()
    assert read(store, "echo").every == 60.0

    wire.call(0, ("FLUSHALL",))
    put(store, "echo", every=5.0)
    Firing(store, registry=registry(plan=60), metrics=told).tell()
    assert read(store, "echo").every == 5.0
    assert "a client has made one of that name" in caplog.text


# --- real runners --------------------------------------------------------------------------------

SECONDS = 4


def test_each_time_has_its_task_once_though_runners_are_killed(crew: Crew, store: Store, server: RedisServer) -> None:
    crew.start(3)
    put(store, every=1.0, overlap="allow", type="echo")
    put(store, "other", every=1.0, overlap="allow", type="echo")
    chance, until = random.Random(1), time.monotonic() + SECONDS
    while time.monotonic() < until:
        time.sleep(chance.uniform(0.2, 0.7))
        victim = chance.choice([each for each in crew.runners if each.poll() is None])
        victim.kill()
        victim.wait()
        crew.start(1)

    def all_are_done() -> list[Task] | None:
        found = list(store.index.page(limit=100)[0])
        return found if len(found) >= 2 * SECONDS / 2 and all(each.finished for each in found) else None

    eventually(all_are_done, 30)
    for name in ("one", "other"):
        found = store.schedules.read(name)
        assert found is not None
        store.schedules.remove(found)
    made = eventually(all_are_done, 30)
    times = [(each.schedule, each.scheduled_for) for each in made]
    assert len(set(times)) == len(times), "no time has two tasks"
    for name in ("one", "other"):
        fractions = {str(each.scheduled_for)[19:] for each in made if each.schedule == name}
        assert len(fractions) == 1, "`every` keeps its phase"
    assert {each.status for each in made} == {"succeeded"}


def test_many_that_are_due_are_looked_at_in_slices(
    store: Store, firing: Firing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(the_firing, "SLICE_SECONDS", 0.0)
    for number in range(3):
        put(store, f"s{number}")
        ripen(store, f"s{number}")
    store.promote(0, 10)
    for count in (1, 2, 3):
        assert firing.fire()
        assert len(tasks(store)) == count
    assert not firing.fire()
