"""A slot that is moved to another node key by key, as a Cluster's own tools do it: Redis refuses the rest of a script
at the first key that has gone, or was never there. What it has done until then stays done.
"""

import pytest

from service.errors import SandboxError
from service.store import SCRIPTS, TYPE, Store, keys
from service.store.connection import connect
from service.tasks.document import Unique
from service.tasks.limit_rule import LimitRule
from service.tasks.unique import KEEP_LAST
from tests.servers import RedisCluster, eventually
from tests.store.test_connection import is_at
from tests.store.test_limits import TYPES
from tests.store.test_pauses import claim, fetched, pause, stored, told, uids
from tests.store.test_store import new


class Move:
    """Of partition 0."""

    def __init__(self, cluster: RedisCluster) -> None:
        place = next(place for place, node in enumerate(cluster.nodes) if is_at(node, 0))
        self._port = cluster.ports[place - 1]
        self._all = [node.client() for node in cluster.nodes]
        self._from, self._to = self._all[place], self._all[place - 1]
        self._slot = self._from.execute_command("CLUSTER", "KEYSLOT", "0")
        before, self._after = (raw.execute_command("CLUSTER", "MYID").decode() for raw in (self._from, self._to))
        self._to.execute_command("CLUSTER", "SETSLOT", self._slot, "IMPORTING", before)
        self._from.execute_command("CLUSTER", "SETSLOT", self._slot, "MIGRATING", self._after)

    def take(self, *names: str) -> None:
        self._from.execute_command("MIGRATE", "127.0.0.1", self._port, "", 0, 5000, "KEYS", *names)

    def end(self) -> None:
        while names := self._from.execute_command("CLUSTER", "GETKEYSINSLOT", self._slot, 100):
            self.take(*names)
        for raw in (self._to, *self._all):
            raw.execute_command("CLUSTER", "SETSLOT", self._slot, "NODE", self._after)
        for raw in self._all:
            raw.close()


def test_what_comes_back_from_a_lot_is_not_lost(own_cluster: RedisCluster) -> None:
    store = Store(connect(own_cluster.url, SCRIPTS))
    told(store, "echo", "sleep")
    pause(store, TYPE, "echo", seconds=1)
    pause(store, TYPE, "sleep")
    made = [stored(store) for _ in range(3)]
    assert len(store.move(list(map(claim, fetched(store))), consumer="a").paused) == 3
    move = Move(own_cluster)
    move.take(keys.queue(0, "default"))
    with pytest.raises(SandboxError):
        eventually(store.lots.unpark, 10)
    move.end()

    def come_back() -> list[str]:
        store.lots.unpark()
        return uids(fetched(store))

    assert eventually(come_back, 10) == made
    store.close()


def test_who_waits_behind_a_unique_key_is_not_lost(own_cluster: RedisCluster) -> None:
    store = Store(connect(own_cluster.url, SCRIPTS))
    key = Unique("a", "finished", KEEP_LAST)
    store.create_unique([holder := new(store, unique=key)])
    store.move([claim(entry) for entry in fetched(store)], consumer="a")
    store.create_unique([waits := new(store, unique=key)])
    store._wire.call(0, ("EXPIRE", holder.uid, 600))  # as if an older release had ended it
    move = Move(own_cluster)
    move.take(keys.queue(0, "default"))
    with pytest.raises(SandboxError):
        store.unique_keys.look(0, "0", 10)
    move.end()
    store.unique_keys.look(0, "0", 10)
    assert waits.uid in uids(fetched(store))
    store.close()


def test_who_waits_at_a_limit_is_not_lost(own_cluster: RedisCluster) -> None:
    store = Store(connect(own_cluster.url, SCRIPTS))
    store.limits.know(TYPES)
    for name in ("line", "per-customer"):
        store.limits.put(name, LimitRule(concurrency=1))
    tasks = [new(store, type="ring") for _ in range(2)]
    store.create(tasks)
    store.limits.remove("line")
    move = Move(own_cluster)
    move.take(keys.queue(0, "default"))
    with pytest.raises(SandboxError):
        store.limits.serve()
    move.end()
    store.limits.serve()
    assert {*uids(fetched(store))} == {task.uid for task in tasks}
    store.close()
