"""Whether tasks can be created: which right, which room or which password is missing."""

from collections.abc import Iterator
from typing import Any

import pytest
import redis
from msgspec import Raw

from service.errors import StoreUnavailable
from service.store import SCRIPTS, Store
from service.store.connection import Command, connect
from tests.servers import RedisCluster, RedisServer
from tests.store.test_store import new


@pytest.fixture
def store(server: RedisServer) -> Iterator[Store]:
    store = Store(connect(server.url, SCRIPTS))
    yield store
    store.close()


@pytest.mark.parametrize(
    ("rules", "missing"),
    [
        (("+@all", "-@scripting", "~*"), "run EVALSHA"),
        (("+@all", "-xadd", "~*"), "run XADD"),
        (("+@all", "-mset", "~*"), "run MSET"),
        (("+@all", "-zadd", "~*"), "run ZADD"),
        (("+@all", "-sadd", "~*"), "run SADD"),
        (("+@all", "-xreadgroup", "~*"), "run XREADGROUP"),
        (("+@all", "-xgroup", "~*"), "run XGROUP"),
        (("+@all", "-xclaim", "~*"), "run XCLAIM"),
        (("+@all", "-xpending", "~*"), "run XPENDING"),
        (("+@all", "-xack", "~*"), "run XACK"),
        (("+@all", "-xdel", "~*"), "run XDEL"),
        (("+@all", "-zrem", "~*"), "run ZREM"),
        (("+@all", "~sandbox:*"), "write all keys"),
        (("+@all", "%R~*"), "write all keys"),
        (("+@all", "-@dangerous", "~*"), ""),
    ],
)
def test_a_right_that_a_new_task_or_a_runner_needs_is_missed_before_one_comes(
    server: RedisServer, rules: tuple[str, ...], missing: str
) -> None:
    server.client().execute_command("ACL", "SETUSER", "limited", "reset", "on", ">pw", *rules)
    store = Store(connect(f"{server.url}?username=limited&password=pw", SCRIPTS))
    try:
        if missing:
            with pytest.raises(StoreUnavailable, match=f"^the user of Redis may not {missing}"):
                store.check()
        else:
            store.check()
            store.check_room()
            store.create([new(store)])
    finally:
        store.close()
        server.client().execute_command("ACL", "DELUSER", "limited")


def test_the_look_leaves_nothing_but_a_key_that_expires(store: Store, server: RedisServer) -> None:
    store.check()
    client = server.client()
    assert client.keys() == [b"sandbox:{0}:ready"]
    assert 0 < client.pttl("sandbox:{0}:ready") <= 60_000


def test_a_redis_that_is_nearly_full_has_no_room(store: Store, server: RedisServer) -> None:
    client = server.client()
    store.check_room()
    client.config_set("maxmemory", client.info("memory")["used_memory"] + 5_000_000)
    try:
        store.create([new(store)])
        with pytest.raises(StoreUnavailable, match="bytes of room"):
            store.check_room()
    finally:
        client.config_set("maxmemory", 0)


def test_a_redis_that_makes_room_by_itself_has_room(store: Store, server: RedisServer) -> None:
    client = server.client()
    client.config_set("maxmemory-policy", "allkeys-lru")
    client.config_set("maxmemory", client.info("memory")["used_memory"] + 5_000_000)
    try:
        store.check_room()
    finally:
        client.config_set("maxmemory", 0)
        client.config_set("maxmemory-policy", "noeviction")


def test_a_server_is_asked_once_for_all_its_partitions(server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    wire = connect(server.url, SCRIPTS)
    store = Store(wire, partitions=16)
    sent: list[list[object]] = []
    call = wire.call

    def noted(partition: int, *commands: Command, **options: Any) -> list[Any]:
        sent.append([command[0] for command in commands])
        return call(partition, *commands, **options)

    monkeypatch.setattr(wire, "call", noted)
    store.check()
    store.check_room()
    assert sent == [["EVALSHA"] * 16, ["INFO"]]
    assert len(server.client().keys("sandbox:{*}:ready")) == 16
    store.close()


def test_each_partition_of_a_cluster_is_asked(cluster: RedisCluster) -> None:
    store = Store(connect(cluster.url, SCRIPTS), partitions=4)
    store.check()
    store.check_room()
    found = [key for node in cluster.nodes for key in node.client().keys("sandbox:{*}:ready")]
    assert len(found) == 4
    store.close()


@pytest.mark.parametrize("large", [False, True])
def test_a_redis_that_wants_a_password_is_told_in_a_sentence(server: RedisServer, large: bool) -> None:
    server.client().config_set("requirepass", "secret")
    store = Store(connect(server.url, SCRIPTS))
    try:
        with pytest.raises(StoreUnavailable, match="wants a password, and REDIS_URL has none"):
            store.create([new(store, args=Raw(b'"' + b"x" * 100_000 + b'"'))]) if large else store.check()
    finally:
        store.close()
        redis.Redis(unix_socket_path=str(server.socket), password="secret").config_set("requirepass", "")
