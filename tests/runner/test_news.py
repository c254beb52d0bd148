"""Idle lanes on a real Cluster."""

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from service.runner import news
from service.runner.lane import Lane
from service.runner.lockfile import Presence
from service.runner.stop import Stop
from service.runner.triage import Finding
from service.store import QUEUE, SCRIPTS, Pause, Store
from service.store.connection import Command, connect
from service.store.connection.cluster import ClusterWire
from service.tasks import moments
from service.tasks.document import QUEUED, Task
from service.tasks.uid import random_prefix
from tests.runner.test_lane import lane_of, recovery_of
from tests.servers import RedisCluster, eventually

PARTITIONS = 16
QUEUES = ("a", "b", "c", "d", "default")
SECONDS = 20.0


@pytest.fixture
def store(cluster: RedisCluster) -> Iterator[Store]:
    for node in cluster.nodes:
        with node.client() as raw:
            raw.flushall()
    store = Store(connect(cluster.url, SCRIPTS), partitions=PARTITIONS)
    yield store
    store.close()


@pytest.fixture
def no_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only messages wake it."""
    monkeypatch.setattr(news, "LOOKS_A_SECOND", 1e-6)


@pytest.fixture
def taken() -> list[str]:
    """The UIDs that the lane has taken."""
    return []


@pytest.fixture
def idle(
    store: Store, tmp_path: Path, taken: list[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Lane, Presence]]:
    """A lane that has been idle for a while, and listens in all partitions."""
    monkeypatch.setattr(news, "IDLE_SECONDS", 0.0)
    presence, stopping = Presence(tmp_path, 1), Stop()
    lane = lane_of(store, presence, stopping, recovery_of(store, presence), QUEUES)

    def work_off(findings: Sequence[Finding]) -> None:
        taken.extend(finding.entry.uid for finding in findings)

    monkeypatch.setattr(lane, "_work_off", work_off)
    thread = threading.Thread(target=lane.work)
    thread.start()
    eventually(lambda: listens(lane, store), SECONDS)
    yield lane, presence
    stopping.request()
    thread.join(SECONDS)
    presence.leave()


def listens(lane: Lane, store: Store) -> bool:
    """And has looked everywhere."""
    return lane._ear._is_open and not lane._ear._news._fresh and subscribers(store) == PARTITIONS


def subscribers(store: Store) -> int:
    found = 0
    for partition in range(PARTITIONS):
        channel = f"sandbox:{{{partition}}}:changes"
        [[_, count]] = store._wire.call(partition, ("PUBSUB", "SHARDNUMSUB", channel))
        found += count
    return found


def create(store: Store, partition: int, queue: str = "default") -> str:
    task = Task(
        uid=store.uid(random_prefix(), partition),
        type="echo",
        queue=queue,
        status=QUEUED,
        created_at=moments.stamp(time.time()),
    )
    store.create([task])
    return task.uid


def test_an_idle_lane_asks_in_all_partitions_together_twice_a_second(
    store: Store, idle: tuple[Lane, Presence], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Command] = []
    wire = store._wire
    assert isinstance(wire, ClusterWire)
    call = wire.call

    def counted(partition: int, *commands: Command, **options: Any) -> list[Any]:
        asked.extend(commands)
        return call(partition, *commands, **options)

    monkeypatch.setattr(wire, "call", counted)
    begun = time.monotonic()
    eventually(lambda: time.monotonic() - begun > 4.0)
    assert len(asked) <= 2 * (time.monotonic() - begun) + PARTITIONS  # a round may have fallen into the time


@pytest.mark.usefixtures("no_rounds")
def test_what_is_queued_anywhere_wakes_it(store: Store, idle: tuple[Lane, Presence], taken: list[str]) -> None:
    uids = [create(store, partition, queue) for partition in range(PARTITIONS) for queue in QUEUES]
    eventually(lambda: set(taken) == set(uids), SECONDS)


@pytest.mark.usefixtures("no_rounds")
def test_it_misses_nothing_when_its_connections_break(
    cluster: RedisCluster, store: Store, idle: tuple[Lane, Presence], taken: list[str]
) -> None:
    for node in cluster.nodes:
        with node.client() as raw:
            raw.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
    uids = [create(store, partition) for partition in range(PARTITIONS)]
    eventually(lambda: set(taken) == set(uids), SECONDS)


@pytest.mark.usefixtures("no_rounds")
def test_what_comes_back_from_a_lot_wakes_it(store: Store, idle: tuple[Lane, Presence], taken: list[str]) -> None:
    uid = create(store, 11)
    eventually(lambda: taken == [uid], SECONDS)
    lane, _ = idle
    lot = "sandbox:{11}:lot:echo:default:normal"
    store._wire.call(11, ("ZADD", lot, 1, uid), ("SADD", "sandbox:{11}:lots", "echo:default:normal"))
    eventually(lambda: listens(lane, store), SECONDS)
    store.lots.tell(["echo"])
    assert store.lots.unpark() == 1
    eventually(lambda: taken == [uid, uid], SECONDS)


@pytest.mark.usefixtures("no_rounds")
def test_it_sees_the_end_of_a_pause(store: Store, idle: tuple[Lane, Presence], taken: list[str]) -> None:
    lane, _ = idle
    store.pauses.pause(QUEUE, "default", Pause(None, moments.stamp(time.time()), None, None))
    uid = create(store, 3)
    eventually(lambda: not lane._ear._is_open, SECONDS)
    assert taken == []
    store.pauses.resume(QUEUE, "default")
    eventually(lambda: taken == [uid], SECONDS)
    eventually(lambda: listens(lane, store), SECONDS)
