"""Limits with real runners, which die and are replaced."""

import random
import signal
from pathlib import Path

import pytest

from service.store import SCRIPTS, Store
from service.store.connection import connect
from service.tasks import moments
from service.tasks.limit_rule import LimitRule
from service.tasks.registry import Registry
from tests.runner import handlers
from tests.runner.crew import Crew
from tests.servers import RedisCluster, eventually

KEYS = [f"key-{number}" for number in range(50)]
MOST = 2


@pytest.fixture(autouse=True)
def knowing(store: Store) -> None:
    """As the web knows the types."""
    know(store)


def know(store: Store) -> None:
    registry = Registry()
    registry.add_module(handlers)
    store.limits.know(registry)


def limit(store: Store, **bounds: int | str) -> None:
    store.limits.put("by-key", LimitRule(key="args.key", **bounds))  # type: ignore[arg-type]


def counts(folder: Path) -> dict[str, list[int]]:
    """By key: how many of it ran, as each handler saw it when it began."""
    return {path.stem: [int(line) for line in path.read_text().split()] for path in folder.glob("*.txt")}


def unfinished(store: Store) -> int:
    return sum(each.depth + each.running + each.scheduled for each in store.backlog([]).values())


def test_no_more_of_a_key_run_than_the_limit_says_whoever_dies(crew: Crew, store: Store, tmp_path: Path) -> None:
    """Some tasks are there before the limit."""
    folder = tmp_path / "counts"
    folder.mkdir()
    early = [crew.create("counted", args={"folder": str(folder), "key": key})[0] for key in KEYS[:5]]
    limit(store, concurrency=MOST)
    rest = [crew.create("counted", args={"folder": str(folder), "key": key})[0] for key in KEYS for _ in range(8)]
    crew.start(count=4, threads=2)
    chance = random.Random(1)
    left = len(early + rest)
    for turn in range(6):
        eventually(lambda: unfinished(store) <= left - 40, 60)  # noqa: B023
        left = unfinished(store)
        victim = chance.choice([runner for runner in crew.runners if runner.poll() is None])
        victim.send_signal(signal.SIGTERM if turn % 2 else signal.SIGKILL)
        crew.start(threads=2)

    eventually(lambda: unfinished(store) == 0, 60)
    assert {crew.read(uid).status for uid in early + rest} == {"succeeded"}
    seen = counts(folder)
    assert set(seen) == set(KEYS)
    assert max(max(each) for each in seen.values()) == MOST
    assert store.limits.now()["by-key"].waiting == 0


def test_the_limit_holds_on_a_cluster(cluster: RedisCluster, tmp_path: Path) -> None:
    """Three nodes, four partitions: each key lies in one of them."""
    store = Store(connect(cluster.url, SCRIPTS), partitions=4)
    know(store)
    crew = Crew(tmp_path, cluster.url, store)
    folder = tmp_path / "counts"
    folder.mkdir()
    limit(store, concurrency=MOST)
    uids = []
    for key in KEYS[:12]:
        for task in crew.new("counted", count=8, args={"folder": str(folder), "key": key, "seconds": 0.1}):
            home = store.limits.home(task)
            assert home is not None
            task.uid = store.uid(task.uid[:59], home)
            uids += crew.store_all([task])
    try:
        crew.start(count=2, threads=2, partitions=4)
        eventually(lambda: unfinished(store) <= len(uids) - 20, 60)
        crew.runners[0].kill()
        eventually(lambda: unfinished(store) == 0, 60)
    finally:
        crew.kill_all()
    assert len({store.partition(uid) for uid in uids}) > 1
    assert {crew.read(uid).status for uid in uids} == {"succeeded"}
    assert max(max(each) for each in counts(folder).values()) == MOST
    store.close()


def test_a_key_with_many_tasks_holds_up_no_other(crew: Crew, store: Store, tmp_path: Path) -> None:
    limit(store, concurrency=1)
    many = crew.store_all(crew.new("counted", count=400, args={"folder": str(tmp_path), "key": "many", "seconds": 0.2}))
    few = [crew.create("counted", args={"folder": str(tmp_path), "key": key})[0] for key in KEYS[:10]]
    crew.start(threads=2)

    for uid in few:
        assert crew.finished(uid, 30).status == "succeeded"
    assert store.limits.now()["by-key"].waiting > len(many) - 100
    assert {crew.read(uid).attempt for uid in many[-100:]} == {0}


def test_a_rate_spaces_starts_and_costs_no_attempt(crew: Crew, store: Store) -> None:
    limit(store, rate="4/second")
    uids = [crew.create("pushes", args={"key": "one", "after": 0})[0] for _ in range(6)]
    crew.start(count=2)
    tasks = [crew.finished(uid) for uid in uids]

    assert {task.attempt for task in tasks} == {1}
    started = sorted(moments.microseconds(task.started_at or "") / 1e6 for task in tasks)
    assert started[-1] - started[0] >= 0.7, "five intervals, of which two may be made up for"


def test_a_handler_pushes_its_whole_key_back(crew: Crew, store: Store) -> None:
    limit(store, concurrency=1)
    [first] = crew.create("pushes", args={"key": "one", "after": 1.0})
    second, other = (crew.create("pushes", args={"key": key, "after": 0})[0] for key in ("one", "two"))
    crew.start(count=2)

    assert crew.finished(other).status == "succeeded"
    pushed = eventually(lambda: task if (task := crew.read(first)).status == "scheduled" else None)
    assert (pushed.error.type, pushed.error.message) == ("Retry", "too many requests")
    assert [crew.finished(uid).status for uid in (first, second)] == ["succeeded"] * 2
    at = [moments.microseconds(crew.read(uid).started_at or "") for uid in (first, second)]
    assert min(at) >= moments.microseconds(pushed.run_at) - 100_000
    assert crew.read(second).attempt == 1
