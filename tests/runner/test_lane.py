"""What a lane does when its runner stops and Redis misbehaves."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from service.errors import StoreRefused, StoreUnavailable
from service.runner import lane as lanes
from service.runner.alarm import Alarm
from service.runner.journal import Report
from service.runner.lane import Lane
from service.runner.lockfile import Presence
from service.runner.neighbours import Neighbours
from service.runner.recovery import Recovery
from service.runner.stop import Stop
from service.runner.triage import Finding
from service.store import SCRIPTS, Store
from service.store.connection import connect
from service.tasks.document import HIGH, LOW, NORMAL, PRIORITIES
from service.tasks.registry import Registry
from tests.runner.test_holdings import QUEUES, Silence, claims, new_task, statuses, succeed
from tests.runner.wires import FaultyWire
from tests.servers import RedisCluster, RedisServer


@pytest.fixture
def stopping() -> Stop:
    return Stop()


@pytest.fixture
def lane(store: Store, stopping: Stop, tmp_path: Path) -> Iterator[Lane]:
    presence = Presence(tmp_path, 1)
    yield lane_of(store, presence, stopping, recovery_of(store, presence))
    presence.leave()


def recovery_of(store: Store, presence: Presence) -> Recovery:
    return Recovery(
        store=store,
        registry=Registry(),
        presence=presence,
        queues=QUEUES,
        lease_seconds=15.0,
        held=lambda: [],
        neighbours=Neighbours(store=store, presence=presence, queues=QUEUES, lease_seconds=15.0),
    )


def lane_of(
    store: Store,
    presence: Presence,
    stopping: Stop,
    recovery: Recovery,
    queues: Sequence[str] = QUEUES,
    weights: Mapping[str, int] | None = None,
) -> Lane:
    return Lane(
        0,
        store=store,
        registry=Registry(),
        presence=presence,
        report=Report(Silence()),
        queues=queues,
        weights=weights,
        stopping=stopping,
        alarm=Alarm(),
        lease_seconds=15.0,
        grace_seconds=15.0,
        recovery=recovery,
    )


def test_a_refusal_at_the_very_end_ends_the_lane_in_order(
    lane: Lane, store: Store, wire: FaultyWire, stopping: Stop, caplog: pytest.LogCaptureFixture
) -> None:
    held = claims(store, lane.holdings)
    lane.holdings.ended.extend(map(succeed, held))
    stopping.request()
    wire.failure = StoreRefused("WRONGTYPE")
    lane.work()
    assert "2 outcomes are lost, their tasks run again" in caplog.text
    wire.failure = None
    assert statuses(store, held) == ["running", "running"]


@pytest.mark.parametrize("partitions", [1, 16])
def test_an_idle_lane_waits_in_one_command_for_all_partitions_and_queues(
    own_server: RedisServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stopping: Stop, partitions: int
) -> None:
    monkeypatch.setattr(lanes, "WAIT_SECONDS", 0.05)
    store = Store(connect(own_server.url, SCRIPTS), partitions=partitions)
    presence = Presence(tmp_path, 1)
    idle = lane_of(store, presence, stopping, recovery_of(store, presence), queues=("a", "b", "c", "d", "default"))
    idle._find()  # it fetches, and makes the groups
    idle._find()
    with own_server.client() as raw:
        raw.config_resetstat()
        assert [idle._find() for _ in range(5)] == [[]] * 5
        counts = {name.removeprefix("cmdstat_"): told["calls"] for name, told in raw.info("commandstats").items()}
    assert counts["xreadgroup"] == 5 and counts.keys() <= {"xreadgroup", "config|resetstat", "info"}
    presence.leave()
    store.close()


@pytest.mark.parametrize("kind", ["one server", "cluster"])
@pytest.mark.parametrize("weights", [{"default": 1}, {"critical": 5, "default": 2, "bulk": 1}])
def test_in_each_partition_each_line_of_each_queue_has_its_share(
    server: RedisServer, cluster: RedisCluster, tmp_path: Path, stopping: Stop, kind: str, weights: dict[str, int]
) -> None:
    """Shares of eight queues' turns, or of ten priorities', must not lock together with four partitions."""
    store = Store(connect(server.url if kind == "one server" else cluster.url, SCRIPTS), partitions=4)
    for partition in range(4):
        for queue, weight in weights.items():
            for priority in PRIORITIES:
                store.create([new_task(store, partition, queue, priority) for _ in range(10 * weight)])
    presence = Presence(tmp_path, 1)
    busy = lane_of(store, presence, stopping, recovery_of(store, presence), list(weights), weights)
    shares: Counter[tuple[int, str, str]] = Counter()
    for _ in range(4 * 10 * sum(weights.values())):
        [finding] = busy._find()
        assert finding.document is not None
        shares[finding.entry.partition, finding.document.task.queue, finding.document.task.priority] += 1
    assert shares == {
        (partition, queue, priority): share * weight
        for partition in range(4)
        for queue, weight in weights.items()
        for priority, share in {HIGH: 7, NORMAL: 2, LOW: 1}.items()
    }
    presence.leave()
    store.close()


def test_what_a_lane_has_waited_for_is_known_before_its_document_is_read(
    lane: Lane, store: Store, wire: FaultyWire
) -> None:
    assert store.queues.fetch(0, QUEUES, "somebody", 1) == []
    store.create([new_task(store)])
    wire.only, wire.lost = "MGET", 1
    with pytest.raises(StoreUnavailable):
        lane._wait(1)
    assert len(lane.holdings.entries()) == 1
    lane.holdings.start_over()
    [finding] = lane._judge_again()
    assert finding.document is not None


def test_what_is_to_be_judged_in_a_partition_that_is_away_holds_up_no_other(
    cluster: RedisCluster, tmp_path: Path, stopping: Stop
) -> None:
    wire = FaultyWire(cluster.url)
    store = Store(wire, partitions=4)
    presence = Presence(tmp_path, 1)
    lane = lane_of(store, presence, stopping, recovery_of(store, presence))
    there, elsewhere = new_task(store, 1), new_task(store, 2)
    store.create([there])
    store.create([elsewhere])
    lane.holdings.look_again(store.queues.fetch(1, QUEUES, presence.consumer, 1))
    wire.away = 1
    found: list[Finding] = []
    for _ in range(4):
        with suppress(StoreUnavailable):  # of the fetch: another partition comes next
            found = found or lane._find()
    wire.away = None
    found += lane._judge_again()
    assert [finding.entry.uid for finding in found] == [elsewhere.uid, there.uid]
    presence.leave()
    store.close()
