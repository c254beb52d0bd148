"""What became of tasks, by minute and hour; gauges; marks; who is at work."""

import time
from collections.abc import Iterator
from typing import Any

import pytest
import redis

from service.store import SCRIPTS, AtWork, Executing, Store, Tally, history, tally
from service.store.connection import connect
from service.store.history import COARSE, FINE, HOUR, HOURS, MINUTES, QUEUE_GAUGES
from service.store.tally import ALL, BOUNDS, OTHER, Counted
from service.tasks import moments
from service.tasks.document import CANCELLED, FAILED, QUEUED, SCHEDULED, SUCCEEDED, Task
from tests.servers import RedisCluster, RedisServer, eventually

NOON = 1_790_000_000 // 3600 * 3600  # a full hour
MINUTE = NOON // 60


@pytest.fixture
def raw(server: RedisServer) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client


def ended(status: str, *, type: str = "echo", queue: str = "default", ran: float | None = 0.001) -> Task:
    started = None if ran is None else moments.stamp(NOON)
    return Task(
        uid="0" * 64, type=type, queue=queue, status=status, created_at=moments.stamp(NOON), started_at=started,
        duration=ran,
    )  # fmt: skip


def queued_before(seconds: float) -> str:
    """The id of an entry that had been waiting for so long at noon."""
    return f"{int((NOON - seconds) * 1000)}-0"


def counted(*tasks: Task, waited: float | None = 1.0, at: float = NOON) -> list[Counted]:
    count = Tally()
    count.outcomes(at, tasks, ["" if waited is None else queued_before(waited)] * len(tasks))
    return count.take()


def of(store: Store, series: str, scale: Any = MINUTES, at: float = NOON) -> list[int]:
    slot = int(at) // scale.seconds
    [numbers] = store.history.counts(series, scale, slot, slot)
    return numbers


# --- counting in memory --------------------------------------------------------------------------


def test_each_end_is_counted_for_its_queue_and_type_and_for_all() -> None:
    tasks = [ended(SUCCEEDED), ended(SUCCEEDED), ended(FAILED), ended(SCHEDULED), ended(SUCCEEDED, queue="q")]
    found = {each.series: each.numbers[:4] for each in counted(*tasks, ended(QUEUED))}
    assert found == {ALL: [3, 1, 1, 0], "default/echo": [2, 1, 1, 0], "q/echo": [1, 0, 0, 0]}


def test_what_has_not_run_has_no_times() -> None:
    """A crash, and what was cancelled."""
    for task in (ended(FAILED, ran=None), ended(CANCELLED)):
        [numbers, _] = [each.numbers for each in counted(task)]
        assert sum(numbers) == 1


def test_what_was_taken_is_not_taken_again() -> None:
    count = Tally()
    count.outcomes(NOON, [ended(SUCCEEDED)], [""])
    assert len(count.take()) == 2
    assert count.take() == []


@pytest.mark.parametrize("seconds", [0.00002, 0.00006, 0.001, 0.0473, 1.0, 61.0, 3599.0, 20_000.0])
def test_a_quantile_is_right_within_its_bucket(seconds: float) -> None:
    [numbers, _] = [each.numbers for each in counted(*[ended(SUCCEEDED, ran=seconds)] * 9, waited=seconds)]
    for name in tally.TIMES:
        median = tally.quantile(tally.histogram(numbers, name), 0.5)
        assert median is not None
        if name == "run":
            assert median <= 0.00005 if seconds < 0.00005 else seconds / 1.8 <= median <= seconds * 1.8
    assert tally.total(numbers, "run") == 9 * int(seconds * 1e6)


def test_quantiles_of_a_mixture_and_of_nothing() -> None:
    tasks = [ended(SUCCEEDED, ran=0.01)] * 94 + [ended(SUCCEEDED, ran=5.0)] * 6
    [numbers, _] = [each.numbers for each in counted(*tasks, waited=None)]
    run = tally.histogram(numbers, "run")
    assert (tally.quantile(run, 0.5) or 0) < 0.02 and (tally.quantile(run, 0.95) or 0) > 2.5
    assert tally.quantile(tally.histogram(numbers, "wait"), 0.5) is None
    assert tally.quantile([0] * 35 + [1], 0.5) == BOUNDS[-1] / 1e6


# --- records in Redis ----------------------------------------------------------------------------


def test_counts_of_several_processes_are_added_by_minute_by_hour_and_in_all(store: Store) -> None:
    store.history.add("a", 1, counted(ended(SUCCEEDED, ran=0.5), ended(FAILED)))
    store.history.add("b", 1, counted(ended(SUCCEEDED), at=NOON + 59))
    store.history.add("b", 2, counted(ended(SUCCEEDED, type="other"), at=NOON + 3599))

    assert of(store, "default/echo")[:4] == of(store, "default/echo", HOURS)[:4] == [2, 1, 0, 0]
    assert of(store, ALL, HOURS)[:4] == [3, 1, 0, 0]
    assert of(store, ALL, at=NOON + 3599)[:4] == [1, 0, 0, 0]
    assert of(store, ALL, at=NOON + 60) == [0] * tally.LENGTH
    assert {name: numbers[:4] for name, numbers in store.history.in_all().items()} == {
        "default/echo": [2, 1, 0, 0], "default/other": [1, 0, 0, 0],
    }  # fmt: skip
    assert tally.total(of(store, "default/echo"), "run") == 502_000
    assert sum(tally.histogram(of(store, "default/echo"), "wait")) == 3
    assert store.history.series() == ([ALL, "default/echo", "default/other"], [])


def test_a_batch_that_is_sent_again_is_added_once(store: Store) -> None:
    for _ in range(2):
        store.history.add("a", 1, counted(ended(SUCCEEDED)))
    store.history.add("a", 2, counted(ended(SUCCEEDED)))
    assert of(store, ALL)[0] == 2


def test_a_counter_stays_at_its_highest_value(store: Store) -> None:
    """And does not run into its neighbour."""
    numbers = [2**31] * 4 + [2**55] * 2 + [2**23] * (tally.LENGTH - 6)
    for number in range(1, 4):
        store.history.add("a", number, [Counted(MINUTE, ALL, numbers)])
    assert of(store, ALL) == [2**32 - 1] * 4 + [2**56 - 1] * 2 + [2**24 - 1] * (tally.LENGTH - 6)
    assert of(store, ALL, HOURS)[0] == 3 * 2**31


def test_records_of_neighbouring_keys_are_read_in_one_row(store: Store) -> None:
    for number, minute in enumerate((MINUTE - 1, MINUTE, MINUTE + 61), 1):
        store.history.add("a", number, [Counted(minute, ALL, [number] + [0] * (tally.LENGTH - 1))])
    found = [numbers[0] for numbers in store.history.counts(ALL, MINUTES, MINUTE - 2, MINUTE + 62)]
    assert found == [0, 1, 2] + [0] * 60 + [3, 0]


def test_what_is_beyond_the_most_series_is_counted_as_other(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "MOST_SERIES", 3)
    for number in range(6):
        store.history.add("a", number + 1, counted(ended(SUCCEEDED, type=f"t{number}")))
    names, _ = store.history.series()
    assert names == sorted([ALL, OTHER, "default/t0", "default/t1", "default/t2"])
    assert of(store, ALL)[0] == 6
    assert sum(of(store, name)[0] for name in names if name != ALL) == 6
    assert of(store, OTHER)[0] >= 1


def test_minutes_are_kept_for_two_days_hours_for_a_month(store: Store, raw: redis.Redis) -> None:
    store.history.add("a", 1, counted(ended(SUCCEEDED)))
    [minutes] = raw.keys("*history:minutes:*all")
    [hours] = raw.keys("*history:hours:*all")
    assert 48 * HOUR <= raw.ttl(minutes) <= 51 * HOUR
    assert 31 * 24 * HOUR <= raw.ttl(hours) <= 33 * 24 * HOUR
    assert all(raw.ttl(key) > 0 for key in raw.keys("*history*") if not key.endswith((b":series", b":marks")))
    assert raw.strlen(minutes) <= 60 * MINUTES.size


def test_a_series_that_nobody_counts_any_more_is_forgotten(store: Store, raw: redis.Redis) -> None:
    store.history.add("a", 1, counted(ended(SUCCEEDED, type="old")))
    raw.zadd("sandbox:{0}:history:series", {"default/old": time.time() - 32 * 24 * HOUR})
    store.history.add("a", 2, counted(ended(SUCCEEDED)))
    assert store.history.series()[0] == [ALL, "default/echo"]


def test_gauges_are_kept_as_measured_and_their_peaks_by_hour(store: Store) -> None:
    store.history.gauge(NOON, {"queue:a": (5, 0, 1, 2.6), "runners": (1, 2, 0, 3 * 2**30)})
    store.history.gauge(NOON + 15, {"queue:a": (3, 1, 0, 0.0)})
    first = NOON // 15
    assert len(QUEUE_GAUGES) == 4
    assert store.history.gauges("queue:a", FINE, first - 1, first + 2) == [None, [5, 0, 1, 3], [3, 1, 0, 0], None]
    assert store.history.gauges("queue:a", COARSE, NOON // HOUR, NOON // HOUR) == [[5, 1, 1, 3]]
    assert store.history.gauges("runners", FINE, first, first) == [[1, 2, 0, 3 * 2**30]]
    assert store.history.series() == ([], ["queue:a", "runners"])


def test_marks_stand_in_their_order_each_once_and_old_ones_go(store: Store) -> None:
    month = 31 * 86400 * 1_000_000
    for at in (month + 5, month + 3, month + 5, 1):
        store.history.mark(at, {"at": at, "what": "started"})
    store.history.mark(month + 9, {"at": month + 9, "what": "reloaded"})
    assert [mark["at"] for mark in store.history.marks(0, month + 8)] == [month + 3, month + 5]


def at_work(name: str) -> AtWork:
    executing = [Executing(uid="0" * 64, type="echo", queue="default", since=moments.stamp(NOON))]
    return AtWork(
        runner=name, host="h", pid=1, release="/r", started_at=moments.stamp(NOON), memory=1, queues=["default"],
        threads=2, executing=executing,
    )  # fmt: skip


def test_who_is_at_work_is_listed_until_it_leaves_or_falls_silent(store: Store, raw: redis.Redis) -> None:
    for name in ("b", "a", "c"):
        store.roster.enter(at_work(name))
    assert store.roster.at_work() == [at_work("a"), at_work("b"), at_work("c")]
    store.roster.leave("a")
    raw.pexpire("sandbox:{0}:roster:b", 1)
    assert eventually(lambda: store.roster.at_work() == [at_work("c")])
    assert raw.zrange("sandbox:{0}:roster", 0, -1) == [b"c"]
    assert 0 < raw.ttl("sandbox:{0}:roster:c") <= 10


def test_all_of_it_works_on_a_cluster(cluster: RedisCluster) -> None:
    store = Store(connect(cluster.url, SCRIPTS), partitions=4)
    store.history.add("a", 1, counted(ended(SUCCEEDED)))
    store.history.gauge(NOON, {"queue:a": (1, 2, 3, 4)})
    store.history.mark(1, {"what": "started"})
    store.roster.enter(at_work("a"))
    assert of(store, "default/echo")[0] == store.history.in_all()["default/echo"][0] == 1
    assert store.history.gauges("queue:a", FINE, NOON // 15, NOON // 15) == [[1, 2, 3, 4]]
    assert store.history.marks(0, 2) == [{"what": "started"}]
    assert store.roster.at_work() == [at_work("a")]
    store.close()
