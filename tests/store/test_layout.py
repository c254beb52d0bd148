"""What is in Redis says whose it is, and who may work on it."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from service.errors import StoreUnavailable, WrongRedis
from service.store import QUEUE, SCRIPTS, AtWork, Layout, Pause, Store, census, layout
from service.store.connection import connect
from service.tasks import moments
from service.tasks.document import HIGH, QUEUED, Task
from service.tasks.limit_rule import LimitRule
from service.tasks.uid import random_prefix
from tests.servers import RedisCluster, RedisServer

KEY = "sandbox:{0}:layout"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def raw(server: RedisServer) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client


def guarded(url: str, *, name: str = "sandbox", partitions: int = 1, reads: int = 1, writes: int = 1) -> Store:
    wire = connect(url, SCRIPTS)
    ours = Layout(wire, name=name, partitions=partitions, reads=reads, writes=writes)
    return Store(wire, partitions=partitions, layout=ours)


def new(store: Store, partition: int = 0) -> Task:
    return Task(
        uid=store.uid(random_prefix(), partition),
        type="echo",
        queue="default",
        status=QUEUED,
        created_at=moments.stamp(time.time()),
    )


def create(store: Store, partition: int = 0) -> str:
    task = new(store, partition)
    assert store.create([task]) == []
    return task.uid


def record(raw: redis.Redis) -> dict[str, object]:
    found: dict[str, object] = json.loads(raw.get(KEY) or b"{}")
    return found


def test_an_empty_redis_belongs_to_whoever_first_writes(server: RedisServer, raw: redis.Redis) -> None:
    store = guarded(server.url, name="billing")
    store.check()
    assert raw.get(KEY) is None  # a release on trial leaves nothing behind
    create(store)
    assert record(raw) == {"name": "billing", "partitions": 1, "layout": 1, "reads": 1}
    guarded(server.url, name="billing").check()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"name": "shop"}, "installation 'billing', and this one is 'shop': .*SANDBOX_NAME"),
        ({"partitions": 4}, "in 1 partitions, and SANDBOX_PARTITIONS is 4: set it to 1"),
        ({"reads": 2, "writes": 2}, "writes layout 2, .* reads layouts up to 1: first install"),
    ],
)
def test_anothers_redis_is_refused_in_words_and_left_alone(
    server: RedisServer, raw: redis.Redis, changed: dict[str, int], words: str
) -> None:
    create(guarded(server.url, name="billing"))
    before = sorted(raw.keys())
    other = guarded(server.url, **({"name": "billing"} | changed))  # type: ignore[arg-type]
    for call in (other.check, lambda: create(other), lambda: other.queues.fetch(0, ["default"], "a", 1)):
        with pytest.raises(WrongRedis, match=words):
            call()
    assert sorted(raw.keys()) == before
    assert record(raw)["name"] == "billing"


def test_a_newer_layout_is_refused_in_words(server: RedisServer) -> None:
    create(guarded(server.url, reads=2, writes=2))
    with pytest.raises(WrongRedis, match="in layout 2, and this release reads layouts up to 1: install the newer"):
        guarded(server.url).check()


def pause(store: Store) -> None:
    store.pauses.pause(QUEUE, "default", Pause(None, moments.stamp(time.time()), None, None))


def urgent(store: Store) -> None:
    task = new(store)
    task.priority = HIGH
    store.create([task])


@pytest.mark.parametrize("use", [pause, urgent])
def test_the_first_use_of_what_is_new_raises_the_layout_and_shuts_older_releases_out(
    server: RedisServer, raw: redis.Redis, use: Callable[[Store], None]
) -> None:
    older, store = guarded(server.url), guarded(server.url, reads=2)
    create(older)
    create(store)
    assert (record(raw)["layout"], record(raw)["reads"]) == (1, 2)  # the way back is open
    use(store)
    assert (record(raw)["layout"], record(raw)["reads"]) == (2, 2)
    with pytest.raises(WrongRedis, match="in layout 2, and this release reads layouts up to 1"):
        guarded(server.url).check()
    create(guarded(server.url, reads=2))
    assert record(raw)["layout"] == 2  # it stays


@pytest.mark.parametrize("use", [pause, urgent])
def test_what_an_older_release_at_work_could_not_find_is_not_written(
    server: RedisServer, raw: redis.Redis, use: Callable[[Store], None]
) -> None:
    store = guarded(server.url, reads=2)
    create(store)
    create(guarded(server.url))  # it starts last
    with pytest.raises(StoreUnavailable, match=r"an older release works on this Redis.*every host has this release"):
        use(store)
    assert record(raw)["layout"] == 1
    assert not raw.exists("sandbox:{0}:pauses", "sandbox:{0}:high:default")
    create(store)  # all else goes on


def test_the_first_limit_raises_the_layout(server: RedisServer, raw: redis.Redis) -> None:
    store = guarded(server.url, reads=3)
    create(store)
    assert record(raw)["layout"] == 1
    store.limits.put("partner", LimitRule(concurrency=1))
    assert record(raw)["layout"] == 3
    with pytest.raises(WrongRedis, match="in layout 3, and this release reads layouts up to 2"):
        guarded(server.url, reads=2).check()


@pytest.mark.parametrize("text", ["no JSON", "5", "{}"])
def test_a_record_that_nobody_understands_is_refused(server: RedisServer, raw: redis.Redis, text: str) -> None:
    raw.set(KEY, text)
    with pytest.raises(WrongRedis, match="does not understand"):
        guarded(server.url).check()


def test_tasks_of_before_there_was_a_record_are_adopted(server: RedisServer, raw: redis.Redis) -> None:
    unguarded = Store(connect(server.url, SCRIPTS))
    uid = create(unguarded)
    with pytest.raises(WrongRedis, match="writes layout 2"):
        guarded(server.url, reads=2, writes=2).check()  # a release of before may be at work
    store = guarded(server.url)
    create(store)
    assert record(raw)["layout"] == 1
    assert store.read(uid) is not None


def test_of_two_installations_that_start_at_once_one_wins(server: RedisServer, raw: redis.Redis) -> None:
    names = [f"installation-{number}" for number in range(8)]
    ready, refused = threading.Barrier(len(names)), []

    def start(name: str) -> None:
        store = guarded(server.url, name=name)
        store.check()
        ready.wait()
        try:
            create(store)
        except WrongRedis:
            refused.append(name)

    threads = [threading.Thread(target=start, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted([*refused, str(record(raw)["name"])]) == names
    assert raw.xlen("sandbox:{0}:queue:default") == 1


def test_what_is_away_at_the_start_is_compared_when_it_answers(own_server: RedisServer) -> None:
    create(guarded(own_server.url, name="billing"))
    own_server.stop()
    store = guarded(own_server.url, name="shop")
    with pytest.raises(StoreUnavailable, match="cannot be reached"):
        store.check()
    own_server.start()
    with pytest.raises(WrongRedis, match="'billing'"):
        create(store)


def test_a_cluster_has_one_record(cluster: RedisCluster) -> None:
    for node in cluster.nodes:
        with node.client() as raw:
            raw.flushall()
    create(guarded(cluster.url, partitions=4), partition=3)
    with pytest.raises(WrongRedis, match="in 4 partitions, and SANDBOX_PARTITIONS is 8"):
        create(guarded(cluster.url, partitions=8), partition=3)
    for node in cluster.nodes:
        with node.client() as raw:
            raw.flushall()


def test_the_record_is_compared_once_not_before_each_command(server: RedisServer, raw: redis.Redis) -> None:
    create(guarded(server.url))
    store = guarded(server.url)
    raw.config_resetstat()
    for _ in range(5):
        store.check()
    claimed = guarded(server.url)
    claimed.claim()
    claimed.check()
    assert raw.info("commandstats")["cmdstat_get"]["calls"] == 2


def test_a_record_that_is_gone_is_written_again(
    server: RedisServer, raw: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "COMPARE_SECONDS", 0.0)
    store = guarded(server.url, name="billing")
    create(store)
    raw.flushall()
    store.read(new(store).uid)
    assert record(raw)["name"] == "billing"


def test_who_works_already_sees_that_redis_has_become_anothers(
    server: RedisServer, raw: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, "COMPARE_SECONDS", 0.0)
    store = guarded(server.url, name="billing", reads=2)
    create(store)
    create(guarded(server.url, name="billing", reads=3, writes=2))
    create(store)
    assert record(raw)["reads"] == 3  # who works on does not take it back
    raw.flushall()
    create(guarded(server.url, name="shop"))
    with pytest.raises(WrongRedis, match="'shop', and this one is 'billing'"):
        create(store)


def test_one_request_compares_again_for_all_and_after_a_failure_each_does(
    server: RedisServer, raw: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = guarded(server.url)
    with monkeypatch.context() as patch:
        patch.setattr(layout, "COMPARE_SECONDS", 0.0)
        uid = create(store)
    begun, go_on, judge = threading.Event(), threading.Event(), Layout.judge
    judged: list[object] = []
    refused: list[StoreUnavailable] = []

    def held(ours: Layout) -> object:
        judged.append(ours)
        begun.set()
        assert go_on.wait(10)
        return judge(ours)

    def read() -> None:
        try:
            store.read(uid)
        except StoreUnavailable as error:
            refused.append(error)

    monkeypatch.setattr(Layout, "judge", held)
    raw.set(KEY, "no JSON")
    first, second = threading.Thread(target=read), threading.Thread(target=read)
    first.start()
    assert begun.wait(10)
    second.start()
    second.join(10)
    assert len(judged) == 1 and not second.is_alive() and not refused
    go_on.set()
    first.join(10)
    read()
    read()
    assert len(judged) == 3 and [type(error) for error in refused] == [WrongRedis] * 3


def test_nobody_goes_ahead_of_the_first_comparison(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    store = guarded(server.url)
    uid = new(store).uid
    both, judge = threading.Barrier(2), Layout.judge

    def met(ours: Layout) -> object:
        both.wait(10)
        return judge(ours)

    monkeypatch.setattr(Layout, "judge", met)
    readers = [threading.Thread(target=store.read, args=[uid]) for _ in range(2)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(20)
    assert not both.broken


def test_whose_redis_it_is_can_be_judged_without_a_trace(server: RedisServer, raw: redis.Redis) -> None:
    guarded(server.url).judge()
    assert raw.keys() == []
    create(guarded(server.url, name="billing"))
    with pytest.raises(WrongRedis, match="'billing'"):
        guarded(server.url, name="shop").judge()


# --- a change of the layout ------------------------------------------------------------------------


def test_a_layout_is_changed_in_two_steps_and_nothing_is_lost(server: RedisServer, raw: redis.Redis) -> None:
    """Releases 1 (now), 2 (reads both, writes layout 1) and 3 (writes layout 2); each beside the next."""
    first = guarded(server.url)
    create(first)
    with pytest.raises(WrongRedis, match="first install a release in between"):
        guarded(server.url, reads=2, writes=2).check()

    second = guarded(server.url, reads=2, writes=1)
    create(second)
    assert (record(raw)["layout"], record(raw)["reads"]) == (1, 2)
    guarded(server.url).check()  # the way back is open

    third = guarded(server.url, reads=2, writes=2)
    uids = [create(third) for _ in range(300)]
    assert record(raw)["layout"] == 2
    with pytest.raises(WrongRedis, match="in layout 2"):
        guarded(server.url).check()

    workers = [worker(server, writes, f"{writes}-{number}") for writes in (1, 2) for number in (1, 2)]
    assert [process.wait(60) for process in workers] == [0] * 4

    assert {document.task.status for document in third.read_many(uids) if document} == {"succeeded"}
    assert record(raw)["layout"] == 2
    lengths = {name: raw.xlen(f"sandbox:{{0}}:{name}:default") for name in ("queue", "returned", "back")}
    assert lengths == {"queue": 0, "returned": 0, "back": 0}
    assert raw.exists("sandbox:{0}:returned:default", "sandbox:{0}:back:default") == 2  # both were at work


def worker(server: RedisServer, writes: int, consumer: str) -> subprocess.Popen[bytes]:
    words = [sys.executable, "-m", "tests.store.layout_two", server.url, str(writes), consumer]
    return subprocess.Popen(words, cwd=ROOT)


# --- an older release on another host --------------------------------------------------------------


def serving(url: str) -> Store:
    wire = connect(url, SCRIPTS)
    layout = Layout(wire, name="sandbox", partitions=2, reads=2, writes=1)
    return Store(wire, partitions=2, layout=layout, served=["default", "bulk"])


def told(runner: str, **more: int) -> AtWork:
    """In the roster."""
    return AtWork(runner, runner.split(":")[0], 7, "", moments.stamp(time.time()), 0, ["default"], 1, [], **more)


OLD = "web2:b00t:7:c0ffee"


def work_as_an_older_release(store: Store, raw: redis.Redis) -> None:
    """It has taken a task, and told nobody what it reads."""
    create(store, 1)
    assert store.queues.fetch(1, ["default"], OLD, 1)


def be_listed_as_an_older_release(store: Store, raw: redis.Redis) -> None:
    store.roster.enter(told(OLD))
    listed = json.loads(raw.get(f"sandbox:{{0}}:roster:{OLD}") or b"{}")
    listed.pop("reads", None)
    raw.set(f"sandbox:{{0}}:roster:{OLD}", json.dumps(listed), ex=10)


@pytest.mark.parametrize("be_there", [work_as_an_older_release, be_listed_as_an_older_release])
@pytest.mark.parametrize("use", [pause, urgent])
def test_while_an_older_release_works_on_another_host_nothing_is_written_that_it_could_not_find(
    server: RedisServer, raw: redis.Redis, use: Callable[[Store], None], be_there: Callable[[Store, redis.Redis], None]
) -> None:
    store = serving(server.url)
    create(store)  # this release has started last
    ours = told("web1:b00t:8:cafe", reads=2)
    store.roster.enter(ours)
    assert store.queues.fetch(0, ["default"], ours.runner, 1)
    be_there(store, raw)
    with pytest.raises(StoreUnavailable, match=r"are at work on web2, .*install this release there"):
        use(store)
    assert record(raw)["layout"] == 1
    assert not raw.exists("sandbox:{0}:pauses", "sandbox:{1}:pauses") and not raw.xlen("sandbox:{0}:high:default")
    store.roster.leave(OLD)
    raw.delete(*raw.keys("sandbox:*:default"))  # with all consumers of their groups
    use(store)
    assert record(raw)["layout"] == 2


def test_nor_is_a_stuck_type_parked_then(server: RedisServer, raw: redis.Redis) -> None:
    store = serving(server.url)
    stuck = new(store)
    store.create([stuck])
    [entry] = store.queues.fetch(0, ["default"], "web1:b00t:8:cafe", 1)
    store.roster.enter(told("web1:b00t:8:cafe", reads=2))
    raw.zadd("sandbox:{0}:types", {stuck.type: 1})  # nobody knows it since 1970
    work_as_an_older_release(store, raw)
    assert store.lots.park("web1:b00t:8:cafe", [(entry, stuck)]) == [entry]
    assert record(raw)["layout"] == 1 and not raw.exists("sandbox:{0}:lots")


def test_a_consumer_that_has_been_silent_for_long_is_not_at_work(
    server: RedisServer, raw: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = serving(server.url)
    work_as_an_older_release(store, raw)
    monkeypatch.setattr(census, "AT_WORK_SECONDS", 0)
    with pytest.raises(StoreUnavailable, match="web2"):
        pause(store)  # it holds something
    [entry] = raw.xrange("sandbox:{1}:queue:default")
    raw.xack("sandbox:{1}:queue:default", "runners", entry[0])
    pause(store)
    assert record(raw)["layout"] == 2


def test_while_the_record_is_away_the_other_partitions_go_on(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = guarded(server.url, partitions=2)
    here, there = create(store, 0), create(store, 1)

    def away(_: Layout) -> None:
        raise StoreUnavailable("as the test wishes")

    monkeypatch.setattr(Layout, "judge", away)
    monkeypatch.setattr(store._wire, "_compare_at", time.monotonic())
    assert store.read(there) is not None
    monkeypatch.setattr(store._wire, "_compare_at", time.monotonic())
    with pytest.raises(StoreUnavailable):
        store.read(here)
    store.close()
