"""The wire to a Redis that dies, freezes, fills up, forgets, or is somewhere else."""

import gc
import signal
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
import trustme

from service.errors import StoreRefused, StoreUnavailable
from service.observe import scrubber
from service.store import SCRIPTS, Store
from service.store.connection import Command, Wire, connect
from service.store.connection.cluster import ClusterWire
from service.tasks import moments
from service.tasks.document import QUEUED, Task
from service.tasks.uid import random_prefix
from tests.servers import BUSY, RedisCluster, RedisServer, eventually, free_port
from tests.test_settings import GOOD_REDIS_URLS

WITHIN_SECONDS = 2.0 * BUSY
HOST = "127.0.0.2"  # this machine, and not what localhost is


@pytest.fixture
def wire(own_server: RedisServer) -> Iterator[Wire]:
    wire = connect(own_server.url, SCRIPTS)
    yield wire
    wire.close()


@contextmanager
def unavailable(reason: str) -> Iterator[None]:
    begun = time.monotonic()
    with pytest.raises(StoreUnavailable, match=reason):
        yield
    assert time.monotonic() - begun < WITHIN_SECONDS


def echo(wire: Wire, text: str = "hello") -> bool:
    return wire.call(0, ("ECHO", text)) == [text.encode()]


def warm(wire: Wire, connections: int) -> None:
    """So many connections lie in the pool."""
    together = threading.Barrier(connections)

    def use() -> None:
        together.wait()
        wire.call(0, ("BLPOP", "nothing", 0.2), wait_seconds=0.3)

    threads = [threading.Thread(target=use) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


CLOSES_ITS_OUTPUT = """
import os, sys
from service.store import SCRIPTS
from service.store.connection import connect

os.closerange(0, 3)
wire = connect(sys.argv[1], SCRIPTS)
wire.call(0, ("ECHO", "here"))
for number in (0, 1, 2):
    try:
        os.write(number, b"SET printed 1\\r\\n")
    except OSError:
        pass
"""


def test_what_is_printed_never_reaches_redis_though_standard_output_was_closed(
    wire: Wire, own_server: RedisServer
) -> None:
    """A connection would get the number of standard output."""
    subprocess.run([sys.executable, "-c", CLOSES_ITS_OUTPUT, own_server.url], check=True)
    assert wire.call(0, ("EXISTS", "printed")) == [0]


FORKS = """
import os, sys
from service.store import SCRIPTS
from service.store.connection import connect

wire = connect(sys.argv[1], SCRIPTS)

def asks(who):
    return all(wire.call(0, ("ECHO", f"{who} {number}")) == [f"{who} {number}".encode()] for number in range(1000))

[number] = wire.call(0, ("CLIENT", "ID"))
child = os.fork()
if not child:
    os._exit(0 if asks("child") else 1)
assert asks("parent")
assert os.waitpid(child, 0)[1] == 0
assert wire.call(0, ("CLIENT", "ID")) == [number], "the parent's connection has ended"
"""


def test_a_forked_child_asks_on_a_connection_of_its_own(own_server: RedisServer) -> None:
    assert subprocess.run([sys.executable, "-c", FORKS, own_server.url], check=False).returncode == 0


def test_commands_are_answered_in_their_order(wire: Wire) -> None:
    assert wire.call(0, *[("ECHO", str(number)) for number in range(100)]) == [b"%d" % number for number in range(100)]


@pytest.mark.parametrize("url", GOOD_REDIS_URLS)
def test_every_url_that_the_settings_take_makes_a_wire(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_such_host(*_: object) -> None:
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", no_such_host)
    with unavailable("cannot be reached"):
        echo(connect(url, SCRIPTS))


@pytest.mark.parametrize(
    ("url", "details"),
    [
        ("redis://:hidden@127.0.0.1:1/0", "127.0.0.1:1: Connection refused"),
        ("redis://:hidden@nowhere.invalid:6379/0", "nowhere.invalid:6379: "),
        ("unix://:hidden@/nowhere/redis.sock", "/nowhere/redis.sock: No such file or directory"),
        ("redis+cluster://:hidden@127.0.0.1:1", "127.0.0.1:1: Connection refused"),
    ],
)
def test_a_redis_that_cannot_be_reached_is_told_with_where_and_why_and_clients_are_not(url: str, details: str) -> None:
    with pytest.raises(StoreUnavailable) as away:
        echo(connect(url, SCRIPTS))
    assert str(away.value).startswith(f"Redis cannot be reached ({details}")
    assert "hidden" not in str(away.value)
    assert away.value.for_clients == "Redis cannot be reached"


def test_a_redis_that_is_away_is_unavailable_and_comes_back(own_server: RedisServer, wire: Wire) -> None:
    assert echo(wire)
    own_server.kill()

    for _ in range(2):
        with unavailable("cannot be reached"):
            echo(wire)

    own_server.start()
    assert echo(wire)


def test_a_wire_makes_as_many_connections_as_it_needs(own_server: RedisServer, wire: Wire) -> None:
    own_server.kill()
    for _ in range(150):
        with unavailable("cannot be reached"):
            echo(wire)
    own_server.start()
    for _ in range(150):
        assert echo(wire)
        with own_server.client() as raw:
            raw.client_kill_filter(_type="normal", skipme=True)


def test_connections_that_died_in_the_pool_fail_no_request(own_server: RedisServer, wire: Wire) -> None:
    warm(wire, 5)
    own_server.kill()
    own_server.start()
    for _ in range(5):
        assert echo(wire)


def test_a_frozen_redis_is_unavailable_in_time(own_server: RedisServer, wire: Wire) -> None:
    warm(wire, 1)
    own_server.freeze()
    try:
        for _ in range(2):  # on a pooled connection, and on a new one
            with unavailable("does not answer in time"):
                echo(wire)
    finally:
        own_server.thaw()
    assert eventually(lambda: echo(wire, "again"))


def test_connections_that_a_firewall_has_forgotten_fail_one_request(own_server: RedisServer) -> None:
    with _forgetful_firewall(own_server.socket) as (port, forget):
        wire = connect(f"redis://{HOST}:{port}", SCRIPTS)
        warm(wire, 5)
        forget()
        with unavailable("does not answer in time"):
            echo(wire)
        for _ in range(4):
            assert echo(wire)
        wire.close()


@contextmanager
def _forgetful_firewall(server: Path) -> Iterator[tuple[int, Callable[[], None]]]:
    """Once told to forget, nothing more comes through on the connections that there are, and nobody learns of it."""
    known: set[socket.socket] = set()

    class Through(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            known.add(self.request)
            with socket.socket(socket.AF_UNIX) as other:
                other.connect(str(server))
                while data := self.request.recv(65536):
                    if self.request in known:
                        other.sendall(data)
                        self.request.sendall(other.recv(65536))

    with socketserver.ThreadingTCPServer((HOST, 0), Through) as firewall:
        firewall.daemon_threads = True
        threading.Thread(target=firewall.serve_forever, args=(0.01,)).start()
        try:
            yield firewall.server_address[1], known.clear
        finally:
            firewall.shutdown()


def test_the_authorities_are_read_once_for_many_connections_by_tls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, context = trustme.CA(), ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(HOST).configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    made: list[ssl.SSLContext] = []
    make = ssl.create_default_context
    monkeypatch.setattr(ssl, "create_default_context", lambda *words: made.append(make(*words)) or made[-1])
    with _saying("+here", tls=context) as port:
        wires = [connect(f"rediss://{HOST}:{port}{more}", SCRIPTS) for more in (f"?ssl_ca_certs={tmp_path}/ca.pem", "")]
        for _ in range(3):
            assert wires[0].call(0, ("ECHO", "a")) == [b"here"]
            wires[0].close()
        assert len(made) == 1
        with unavailable("certificate"):
            wires[1].call(0, ("ECHO", "a"))


def test_an_answer_that_comes_too_late_is_given_to_nobody(own_server: RedisServer, wire: Wire) -> None:
    assert echo(wire, "first")
    own_server.freeze()
    with unavailable("in time"):
        echo(wire, "late")
    own_server.thaw()
    assert echo(wire, "next")


def test_a_wait_may_take_longer_than_an_answer(wire: Wire) -> None:
    assert wire.call(0, ("BLPOP", "nothing", 1.5), wait_seconds=1.5) == [None]


@pytest.mark.filterwarnings("ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning")
def test_a_thread_that_is_interrupted_leaves_no_half_answer_behind(wire: Wire) -> None:
    class Interruption(BaseException):
        pass

    def interrupt(*_: object) -> None:
        raise Interruption

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for microseconds in range(100, 4000, 100):
            try:
                signal.setitimer(signal.ITIMER_REAL, microseconds / 1e6)
                while True:
                    assert wire.call(0, *[("ECHO", str(number)) for number in range(50)]) == [
                        b"%d" % number for number in range(50)
                    ]
            except Interruption:
                pass
            assert echo(wire, "whole")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        gc.collect()  # a connection that was interrupted before anybody held it is closed here, with a warning


def test_scripts_that_redis_has_forgotten_are_sent_again(own_server: RedisServer) -> None:
    store = Store(connect(own_server.url, SCRIPTS))
    with own_server.client() as raw:
        for _ in range(2):
            raw.script_flush()
            assert store.queues.fetch(0, ("default",), "a", 1) == []
            assert store.queues.retire(0, ("default",), "a") is True
    store.close()


def test_a_redis_that_loads_its_data_is_unavailable_until_it_has(own_server: RedisServer, wire: Wire) -> None:
    with own_server.client() as raw:
        writing = raw.pipeline(transaction=False)
        for number in range(4000):
            writing.set(f"key{number}", "value")
        writing.execute()
    own_server.kill()
    slowly = ("--key-load-delay", "300")
    starting = threading.Thread(target=own_server.start, args=slowly)
    starting.start()

    reasons = set()
    while starting.is_alive():
        try:
            write(wire)
        except StoreUnavailable as error:
            reasons.add(str(error))
    starting.join()

    assert "Redis is loading its data" in reasons
    assert echo(wire)


@contextmanager
def _saying(answer: str, after_seconds: float = 0, tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server that gives each command the same answer, and its port."""

    class Connection(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            for line in self.rfile:
                if line.startswith(b"*"):
                    time.sleep(after_seconds)
                    self.wfile.write(f"{answer}\r\n".encode())

    with socketserver.ThreadingTCPServer((HOST, 0), Connection) as server:
        server.daemon_threads = True
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


def write(wire: Wire) -> list[object]:
    return wire.call(0, ("SET", "key", "value"))


def test_a_full_redis_says_so_and_is_used_again_when_it_is_not(own_server: RedisServer) -> None:
    store = Store(connect(own_server.url, SCRIPTS))
    with own_server.client() as raw:
        raw.config_set("maxmemory", "1")
        with unavailable("is out of memory"):
            store.check()
        with unavailable("is out of memory"):
            store.create([a_task(store)])
        assert raw.keys() == []
        raw.config_set("maxmemory", "0")
    assert store.create([a_task(store)]) == []
    store.close()


def test_a_replica_is_read_only(own_server: RedisServer) -> None:
    store = Store(connect(own_server.url, SCRIPTS))
    with own_server.client() as raw:
        raw.replicaof("127.0.0.1", "1")
        try:
            with unavailable("is read-only"):
                store.check()
            with unavailable("is read-only"):
                store.create([a_task(store)])
        finally:
            raw.replicaof("NO", "ONE")
    store.check()
    store.close()


@pytest.mark.parametrize("connections", [1, 5])
def test_an_address_that_leads_to_a_new_master_is_followed(folder: Path, connections: int) -> None:
    masters = [_server(folder / name) for name in ("old", "new")]
    address = folder / "master.sock"
    address.symlink_to(masters[0].socket)
    wire = connect(f"unix://{address}", SCRIPTS)
    try:
        warm(wire, connections)
        with masters[0].client() as raw:
            raw.replicaof("127.0.0.1", "1")
        address.unlink()
        address.symlink_to(masters[1].socket)

        with unavailable("is read-only"):
            write(wire)
        assert write(wire) == [b"OK"]
        assert write(wire) == [b"OK"]
    finally:
        wire.close()
        for server in masters:
            server.kill()


def _server(folder: Path) -> RedisServer:
    folder.mkdir()
    return RedisServer(folder).start()


def test_a_replica_without_its_master_says_so(own_server: RedisServer, wire: Wire) -> None:
    with own_server.client() as raw:
        raw.config_set("replica-serve-stale-data", "no")
        raw.replicaof("127.0.0.1", "1")
        with unavailable("has lost its master"):
            wire.call(0, ("GET", "key"))


def test_a_redis_that_cannot_write_to_its_disk_says_so(own_server: RedisServer, wire: Wire) -> None:
    with own_server.client() as raw:
        raw.config_set("appendonly", "no")
        raw.config_set("save", "3600 1")
        (own_server.folder / "dump.rdb").mkdir()  # nobody can write a file of that name
        write(wire)
        raw.bgsave()
        eventually(lambda: raw.info("persistence")["rdb_last_bgsave_status"] == "err")
        with unavailable("cannot write to its disk"):
            write(wire)


def test_the_advice_about_a_missing_password_is_no_secret(own_server: RedisServer) -> None:
    with own_server.client() as raw:
        raw.config_set("requirepass", "right")
        with pytest.raises(StoreUnavailable) as refused:
            echo(connect(f"unix://{own_server.socket}", SCRIPTS))
    assert scrubber.text(str(refused.value)) == str(refused.value)


def test_a_wrong_password_is_named(own_server: RedisServer) -> None:
    with own_server.client() as raw:
        raw.config_set("requirepass", "right")
        wire = connect(f"unix://:wrong@{own_server.socket}", SCRIPTS)
        with unavailable("does not accept the password"):
            echo(wire)
        right = connect(f"unix://:right@{own_server.socket}", SCRIPTS)
        assert echo(right)
        right.close()
        wire.close()


def test_a_database_is_chosen(own_server: RedisServer) -> None:
    with own_server.client() as raw:
        raw.config_set("requirepass", "right")
        wire = connect(f"unix://:right@{own_server.socket}?db=3", SCRIPTS)
        write(wire)
        assert raw.info("keyspace").keys() == {"db3"}
        wire.close()


def test_nothing_is_written_where_the_database_is_not_there(own_server: RedisServer) -> None:
    wire = connect(f"{own_server.url}?db=999", SCRIPTS)
    with unavailable("out of range"):
        write(wire)
    with own_server.client() as raw:
        assert raw.keys() == []


def test_a_new_connection_sends_what_is_asked_and_no_more(own_server: RedisServer, wire: Wire) -> None:
    with own_server.client() as raw:
        raw.ping()
        raw.config_resetstat()
        echo(wire)
        assert raw.info("commandstats").keys() == {"cmdstat_config|resetstat", "cmdstat_echo"}


def test_a_redis_that_is_late_with_each_answer_is_unavailable_in_time() -> None:
    with _saying("+OK", after_seconds=0.7) as port:
        wire = connect(f"redis://user:password@{HOST}:{port}/2", SCRIPTS)
        with unavailable("in time"):
            echo(wire)
        wire.close()


def test_an_error_of_the_command_is_none_of_redis(wire: Wire) -> None:
    wire.call(0, ("SET", "key", "text"))
    with pytest.raises(StoreRefused, match="WRONGTYPE"):
        wire.call(0, ("LPUSH", "key", "x"))
    assert echo(wire)


def test_the_wire_keeps_no_more_connections_than_were_used_at_once(own_server: RedisServer, wire: Wire) -> None:
    with own_server.client() as raw:
        before = raw.info("clients")["connected_clients"]
        for _ in range(50):
            echo(wire)
        assert raw.info("clients")["connected_clients"] == before + 1
        wire.close()
        eventually(lambda: raw.info("clients")["connected_clients"] == before)


def test_connections_that_many_use_at_once_are_kept(own_server: RedisServer, wire: Wire) -> None:
    with own_server.client() as raw:
        warm(wire, 200)
        made = raw.info("stats")["total_connections_received"]
        warm(wire, 150)
        assert raw.info("stats")["total_connections_received"] == made


def test_connections_that_nobody_has_used_for_a_while_are_closed(
    own_server: RedisServer, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.store.connection.one_server.IDLE_SECONDS", 0.2)
    with own_server.client() as raw:
        warm(wire, 20)
        others = raw.info("clients")["connected_clients"] - 20

        def one_is_left() -> bool:
            return echo(wire) and raw.info("clients")["connected_clients"] == others + 1

        eventually(one_is_left)


# --- a cluster ---------------------------------------------------------------------------------------


def test_each_partition_is_found_wherever_it_is(cluster: RedisCluster) -> None:
    store = Store(connect(cluster.url, SCRIPTS), partitions=16)
    store.check()
    store.close()


def test_one_known_node_is_enough_to_find_the_others(cluster: RedisCluster) -> None:
    store = Store(connect(cluster.url.partition(",")[0], SCRIPTS), partitions=16)
    store.check()
    store.close()


def test_a_cluster_with_a_frozen_node_is_unavailable_in_time(own_cluster: RedisCluster) -> None:
    wire = connect(own_cluster.url, SCRIPTS)
    store = Store(wire, partitions=16)
    store.check()
    node = own_cluster.nodes[0]
    home = next(partition for partition in range(16) if is_at(node, partition))
    node.freeze()
    try:
        with unavailable("."):
            wire.call(home, ("SET", f"sandbox:{{{home}}}:x", 1))
    finally:
        node.thaw()
    eventually(lambda: _works(store))
    store.close()


def test_a_frozen_cluster_is_unavailable_in_time(own_cluster: RedisCluster) -> None:
    wire = connect(own_cluster.url, SCRIPTS)
    for node in own_cluster.nodes:
        node.freeze()
    for _ in range(3):
        with unavailable("in time"):
            echo(wire)
    for node in own_cluster.nodes:
        node.thaw()
    assert eventually(lambda: echo(wire))
    wire.close()


def test_a_frozen_node_holds_up_few_calls_for_others(own_cluster: RedisCluster) -> None:
    frozen, *others = own_cluster.nodes
    partition = next(partition for partition in range(16) if is_at(others[0], partition))
    frozen.freeze()
    wire = connect(own_cluster.url, SCRIPTS)
    with unavailable("in time"):
        wire.call(partition, _get(partition))
    for _ in range(3):
        wire.call(partition, _get(partition))
    frozen.thaw()
    wire.close()


def test_a_cluster_is_known_when_the_node_that_was_named_is_gone(own_cluster: RedisCluster) -> None:
    named = own_cluster.nodes[0]
    partition = next(partition for partition in range(16) if is_at(named, partition))
    wire = connect(own_cluster.url.partition(",")[0], SCRIPTS)
    wire.call(partition, _get(partition))
    _do_without_some_slots(own_cluster)
    move_slot(own_cluster, partition, own_cluster.nodes[1])
    named.kill()

    wire.call(partition, _get(partition))
    wire.close()


def test_nodes_that_have_left_the_cluster_are_forgotten(
    own_cluster: RedisCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ClusterWire, "LEARN_SECONDS", 0)
    named, left, *_ = own_cluster.nodes
    partition = next(partition for partition in range(16) if is_at(named, partition))
    wire = connect(own_cluster.url.partition(",")[0], SCRIPTS)
    wire.call(partition, _get(partition))
    wire.call(partition, _get(partition))
    _do_without_some_slots(own_cluster)
    with left.client() as raw, named.client() as teller:
        gone = raw.execute_command("CLUSTER", "MYID")
        raw.execute_command("CLUSTER", "RESET")
        teller.execute_command("CLUSTER", "FORGET", gone)

    wire.call(partition, _get(partition))

    assert isinstance(wire, ClusterWire)
    assert wire.addresses == [f"127.0.0.1:{own_cluster.ports[number]}" for number in (0, 2)]
    wire.close()


@pytest.mark.parametrize("host", ["", "?"])
def test_a_slot_that_moved_to_another_port_of_the_same_host_is_found(own_server: RedisServer, host: str) -> None:
    port = free_port()
    with own_server.client() as raw:
        raw.config_set("bind", HOST)
        raw.config_set("port", port)
    with _saying(f"-MOVED 0 {host}:{port}") as named:
        wire = connect(f"redis+cluster://{HOST}:{named}", SCRIPTS)
        assert echo(wire)
        wire.close()


def test_a_slot_that_moved_to_an_ipv6_address_is_looked_for_there() -> None:
    with _saying("-MOVED 0 2001:db8::1:6379") as named:
        wire = connect(f"redis+cluster://{HOST}:{named}", SCRIPTS)
        with unavailable("cannot be reached|in time"):
            echo(wire)
        wire.close()


def test_a_slot_that_moves_is_followed(own_cluster: RedisCluster) -> None:
    store = Store(connect(own_cluster.url, SCRIPTS), partitions=1)
    store.check()
    target = next(node for node in own_cluster.nodes if not is_at(node, 0))

    move_slot(own_cluster, 0, target)

    assert store.create([a_task(store)]) == []
    with target.client() as raw:
        assert raw.exists("sandbox:{0}:queue:default")
    store.close()


def move_slot(cluster: RedisCluster, partition: int, target: RedisServer) -> None:
    """The partition's slot, emptied. The target imports it: only so does it get an epoch that all others believe."""
    source = next(node for node in cluster.nodes if is_at(node, partition))
    with source.client() as raw:
        raw.flushall()
        slot = raw.execute_command("CLUSTER", "KEYSLOT", partition)
    names = {node: node.client().execute_command("CLUSTER", "MYID").decode() for node in (source, target)}
    if source is not target:
        target.client().execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", names[source])
        source.client().execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", names[target])
    for node in [target, *cluster.nodes]:
        with node.client() as raw:
            raw.execute_command("CLUSTER", "SETSLOT", slot, "NODE", names[target])


def _do_without_some_slots(cluster: RedisCluster) -> None:
    for node in cluster.nodes:
        with node.client() as raw:
            raw.config_set("cluster-require-full-coverage", "no")


def _get(partition: int) -> Command:
    return ("GET", f"sandbox:{{{partition}}}:x")


def is_at(node: RedisServer, partition: int) -> bool:
    with node.client() as raw:
        try:
            raw.execute_command("GET", f"sandbox:{{{partition}}}:ready")
        except redis.exceptions.MovedError:
            return False
        return True


def _works(store: Store) -> bool:
    try:
        store.check()
    except StoreUnavailable:
        return False
    return True


def a_task(store: Store) -> Task:
    return Task(
        uid=store.uid(random_prefix()),
        type="echo",
        queue="default",
        status=QUEUED,
        created_at=moments.stamp(time.time()),
    )
