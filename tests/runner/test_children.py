"""Tasks that handlers create: each once, however often the handler runs."""

import json
import math
import pickle
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from service.errors import InvalidTask, KeyHeld, StoreUnavailable
from service.observe.metrics import Metrics
from service.runner import children as children_module
from service.runner.children import Children
from service.store import EVERYTHING, SCRIPTS, Filter, Store
from service.store.connection import connect
from service.tasks import transitions
from service.tasks.context import Context
from service.tasks.declare import CANCEL_MANY, task
from service.tasks.document import CANCELLED, QUEUED, RUNNING, Task
from service.tasks.registry import Registry
from service.tasks.uid import random_prefix
from tests.runner.crew import Crew
from tests.runner.wires import FaultyWire
from tests.servers import BUSY, RedisCluster, eventually

NOW = "2026-03-01T12:00:00.000000Z"


@task("page.fetch", queue="pages", max_attempts=7, timeout=9, priority="low")
def fetch(context: Any, address: str, depth: int = 1) -> None: ...


@task("page.print")
def printed(context: Any, text: str) -> None: ...


@task("site.sync", unique={"key": {"args": ["site"]}})
def sync(context: Any, site: str) -> None: ...


@task("site.lock", unique={"key": {"args": ["site"]}, "on_conflict": "reject"})
def lock(context: Any, site: str) -> None: ...


@task("site.index", unique={"key": {"args": ["site"]}, "on_conflict": "replace"})
def index(context: Any, site: str) -> None: ...


@task("page.send", limits=("mails",))
def send(context: Any, address: str) -> None: ...


REGISTRY = Registry(each.__sandbox_task__ for each in (fetch, printed, sync, lock, index, send))  # type: ignore[attr-defined]


class Counted(Metrics):
    def __init__(self) -> None:
        self.told: dict[str, int] = {}

    def changed(self, event: str, tasks: Any) -> None:
        self.told[event] = self.told.get(event, 0) + len(tasks)


@pytest.fixture
def counted() -> Counted:
    return Counted()


Begin = Callable[..., Context]


@pytest.fixture
def begin(store: Store, counted: Counted) -> Begin:
    """An attempt of a parent."""

    def begin(uid: str = "p" * 64, **fields: Any) -> Context:
        parent = Task(uid=uid, type="parent", queue="default", status=RUNNING, created_at=NOW, attempt=1, **fields)
        return Context(parent, create=Children(store, REGISTRY, counted).create)

    return begin


def listed(store: Store, only: Filter = EVERYTHING) -> list[Task]:
    return store.index.page(limit=1000, only=only)[0]


def test_a_child_has_what_its_type_says_and_names_its_parent(store: Store, begin: Begin) -> None:
    uid = begin(request_id="r", created_by="alice").create("page.fetch", address="/a")
    [child] = listed(store)
    assert (child.uid, child.parent, child.status) == (uid, "p" * 64, QUEUED)
    assert (child.queue, child.max_attempts, child.timeout, child.priority) == ("pages", 7, 9, "low")
    assert (child.request_id, child.created_by, json.loads(bytes(child.args))) == ("r", "alice", {"address": "/a"})
    assert listed(store, Filter(parent="p" * 64)) == [child]
    assert listed(store, Filter(parent=uid)) == []


def test_another_attempt_creates_nothing_twice(store: Store, begin: Begin, counted: Counted) -> None:
    def attempt(context: Context, count: int) -> list[str]:
        made = [context.create("page.fetch", address=f"/{number}") for number in range(count)]
        return [*made, context.create("page.fetch", key="last", address="/last")]

    first = attempt(begin(), 2)
    second = attempt(begin(), 4)
    assert (second[:2], second[-1]) == (first[:2], first[-1])
    assert len(set(second)) == len(listed(store)) == counted.told["created"] == 5
    assert not {*attempt(begin("q" * 64), 4)} & {*second}


def test_a_key_is_no_number(store: Store, begin: Begin) -> None:
    context = begin()
    assert context.create("page.fetch", address="/a") != context.create("page.fetch", key="1", address="/a")


def test_a_key_names_one_child_whatever_its_type(store: Store, begin: Begin) -> None:
    context = begin()
    context.create("page.fetch", key="a", address="/a")
    context.create("site.sync", key="b", site="b")
    for name, key, args in (
        ("page.print", "a", {"text": "x"}),
        ("site.lock", "a", {"site": "a"}),
        ("page.fetch", "b", {"address": "b"}),
    ):
        with pytest.raises(InvalidTask, match="put the type into it"):
            begin().create(name, key=key, **args)
    assert [task.type for task in listed(store)] == ["site.sync", "page.fetch"]


def test_many_are_created_in_order_and_what_is_missing_is_added(store: Store, begin: Begin) -> None:
    addresses = [{"address": f"/{number}"} for number in range(30)]
    some = begin().create_many("page.fetch", addresses[:10:2], keys=[str(number) for number in range(0, 10, 2)])
    every = begin().create_many("page.fetch", addresses, keys=map(str, range(30)))
    assert every[:10:2] == some
    assert len(listed(store)) == 30
    numbered = begin().create_many("page.fetch", addresses)
    assert [json.loads(bytes(each.args)) for each in reversed(listed(store)) if each.uid in numbered] == addresses
    assert begin().create_many("page.fetch", []) == []


def test_many_go_in_portions(store: Store, begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children_module, "PORTION_BYTES", 3 * 1024)
    begin().create_many("page.fetch", [{"address": "x" * number * 100} for number in range(40)])
    assert len(listed(store)) == 40
    monkeypatch.setattr(children_module, "MOST", 1)
    begin("q" * 64).create_many("page.fetch", [{"address": "x"}] * 3)
    assert len(listed(store)) == 43


@pytest.mark.parametrize(
    ("wanted", "says"),
    [
        (("page.burn", {}), "type: there is no 'page.burn' here"),
        ((CANCEL_MANY, {"filter": {}}), "type: there is no 'sandbox.cancel' here"),
        (("page.fetch", {}), "args: Object missing required field `address`"),
        (("page.fetch", {"address": 5}), "args: Expected `str`, got `int`"),
        (("page.fetch", {"address": "/", "no": 1}), "args: Object contains unknown field `no`"),
        (("page.fetch", {"address": "x" * 300_000}), "args: .* 262,144 are allowed"),
        (("page.fetch", {"address": object()}), "args: they are not JSON-able"),
        (("page.fetch", {"address": "/", "weights": [math.nan]}), "args: they are not JSON-able: Out of range"),
    ],
)
def test_a_child_is_checked_as_a_clients_task_is(
    store: Store, begin: Begin, wanted: tuple[str, dict[str, Any]], says: str
) -> None:
    name, args = wanted
    with pytest.raises(InvalidTask, match=says):
        begin().create_many(name, [args])
    with pytest.raises(InvalidTask):
        begin().create_many("page.fetch", [{"address": "/"}, {}])
    assert listed(store) == [], "one that is wrong keeps the others away"


def test_as_many_keys_as_tasks(begin: Begin) -> None:
    with pytest.raises(ValueError, match="zip"):
        begin().create_many("page.fetch", [{"address": "/"}] * 2, keys=["a"])


@pytest.mark.parametrize("keys", [[1, "2"], ["1", None], ["same", "same"]])
def test_a_key_that_is_no_text_or_that_of_another_one_is_refused(store: Store, begin: Begin, keys: list[Any]) -> None:
    """Else a child would be lost without a word: 1 is the number of the first that has no key."""
    with pytest.raises(InvalidTask, match="key: ") as raised:
        begin().create_many("page.fetch", [{"address": "/a"}, {"address": "/b"}], keys=keys)
    assert raised.value.field == "key" and listed(store) == []
    with pytest.raises(InvalidTask, match="key: 1 is no text"):
        begin().create("page.fetch", key=1, address="/a")  # type: ignore[arg-type]


def test_without_a_runner_nothing_is_created() -> None:
    parent = Task(uid="p" * 64, type="parent", queue="default", status=RUNNING, created_at=NOW)
    with pytest.raises(RuntimeError, match="only a runner"):
        Context(parent).create("page.fetch", address="/")


def test_a_child_of_a_unique_type_is_unique(store: Store, begin: Begin, counted: Counted) -> None:
    first = begin().create("site.sync", site="a")
    assert begin("q" * 64).create("site.sync", site="a") == first
    assert begin("q" * 64).create_many("site.sync", [{"site": "a"}, {"site": "b"}])[0] == first
    begin().create("site.lock", key="lock", site="a")
    with pytest.raises(KeyHeld) as raised:
        begin("q" * 64).create("site.lock", site="a")
    assert pickle.loads(pickle.dumps(raised.value)).holder == raised.value.holder != "", "it may cross a pipe"
    begin().create("site.index", key="i", site="a")
    begin("q" * 64).create("site.index", key="i", site="a")
    assert (counted.told["created"], counted.told["cancelled"]) == (5, 1)
    assert len(listed(store, Filter(status=(CANCELLED,)))) == 1


def test_an_answer_that_was_lost_is_no_child_twice(store: Store, wire: FaultyWire, begin: Begin) -> None:
    wire.lost = 1
    with pytest.raises(StoreUnavailable):
        begin().create("page.fetch", address="/")
    uid = begin().create("page.fetch", address="/")
    assert [each.uid for each in listed(store)] == [uid]


def test_children_lie_in_all_partitions(cluster: RedisCluster, counted: Counted) -> None:
    store = Store(connect(cluster.url, SCRIPTS), partitions=4)
    parent = Task(
        uid=store.uid(random_prefix()), type="parent", queue="default", status=RUNNING, created_at=NOW, attempt=1
    )
    for _ in range(2):
        context = Context(parent, create=Children(store, REGISTRY, counted).create)
        uids = context.create_many("page.fetch", [{"address": str(number)} for number in range(40)])
        uids += context.create_many("site.sync", [{"site": str(number)} for number in range(10)])
    assert {store.partition(uid) for uid in uids} == {0, 1, 2, 3}
    assert (len(set(uids)), counted.told["created"]) == (50, 50)
    assert {each.uid for each in listed(store, Filter(parent=parent.uid))} == set(uids)
    for uid in uids[-10:]:
        assert store.change(uid, lambda task: transitions.cancelled(task, NOW))
    store.close()


def test_children_of_a_limited_type_are_looked_for_once_in_each_partition(
    cluster: RedisCluster, counted: Counted
) -> None:
    asked: list[int] = []

    class Counting(FaultyWire):
        def call(self, partition: int, *commands: Any, **named: Any) -> Any:
            asked.append(partition)
            return super().call(partition, *commands, **named)

    store = Store(Counting(cluster.url), partitions=4)
    store.limits.know(REGISTRY)
    parent = Task(uid=store.uid(random_prefix()), type="p", queue="default", status=RUNNING, created_at=NOW, attempt=1)
    tries = [Context(parent, create=Children(store, REGISTRY, counted).create) for _ in range(2)]
    first, again = (
        each.create_many("page.send", [{"address": str(number)} for number in range(100)]) for each in tries
    )
    assert first == again and counted.told["created"] == 100
    assert len(asked) < 50
    store.close()


def test_a_runner_that_is_killed_while_a_handler_creates_leaves_each_child_once(crew: Crew, tmp_path: Path) -> None:
    [runner] = crew.start()
    [uid] = crew.create("fan.out", args={"path": str(tmp_path / "runs"), "count": 30})
    eventually(lambda: len(listed(crew.store, Filter(parent=uid))) >= 10)
    runner.send_signal(signal.SIGKILL)
    runner.wait()
    crew.start()
    parent = crew.finished(uid, 10 * BUSY)
    made = json.loads(bytes(parent.result))
    assert (parent.attempt, parent.crashes, len(set(made))) == (2, 1, 30)
    assert {each.uid for each in listed(crew.store, Filter(parent=uid))} == set(made)
    for each in made:
        assert crew.finished(each, 10 * BUSY).parent == uid
    runs = [int(line.split()[0]) for line in (tmp_path / "runs").read_text().splitlines()]
    assert sorted(runs) == [*range(30)]
