"""Commands to Redis and their answers: pooled connections, scripts by digest, faults named once.

redis-py opens the connections (URLs, passwords, TLS) and parses the answers; this module sends
many commands with one write, which costs a third of `redis.Redis.execute_command`.

A command may be sent twice: once on a pooled connection that turns out to be dead, and again on a
fresh one. A script that compares before it changes bears that (rule 4). What hands out entries does
not: its first answer would be lost, and nobody would know of the entries. It is sent `once`.
"""

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias
from urllib.parse import urlsplit, urlunsplit

import hiredis
import redis
from redis.connection import ConnectionInterface, parse_url
from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,
    MasterDownError,
    MovedError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
    TryAgainError,
)

from service.errors import StoreRefused, StoreUnavailable

CONNECT_SECONDS: Final = 0.5
ANSWER_SECONDS: Final = 0.9  # a request makes two calls, and is to be answered within two seconds
IDLE_SECONDS: Final = 10.0

REPLICA: Final = (ReadOnlyError, MasterDownError)

Argument: TypeAlias = str | bytes | int | float
Command: TypeAlias = Sequence[Argument]


class Script:
    """A Lua file, called by its digest and sent whole only where the server does not know it."""

    def __init__(self, name: str) -> None:
        self.text = (Path(__file__).parent / "lua" / f"{name}.lua").read_bytes()
        self.digest = hashlib.sha1(self.text, usedforsecurity=False).hexdigest()

    def call(self, keys: Sequence[Argument], arguments: Iterable[Argument]) -> Command:
        return ("EVALSHA", self.digest, len(keys), *keys, *arguments)


class Wire(Protocol):
    """What the store needs of a Redis: commands of one partition, answers in the same order."""

    def call(self, partition: int, *commands: Command, wait_seconds: float = 0, once: bool = False) -> list[Any]: ...

    def close(self) -> None: ...


class Unreachable(StoreUnavailable):
    """No connection could be made, so nothing was sent."""


class Scripts:
    """The texts behind the digests, for a server that has forgotten them."""

    def __init__(self, scripts: Iterable[Script]) -> None:
        self._texts = {script.digest: script.text for script in scripts}

    def reload(self, command: Command) -> Command:
        return ("EVAL", self._texts[str(command[1])], *command[2:])


def _connections(url: str) -> tuple[Callable[[], ConnectionInterface], list[Command]]:
    """Makes connections to the URL, and what is to be said first on each.

    No pool of redis-py: it counts what it has made and stops at a hundred. No greeting of redis-py: it sends four
    commands, and waits for each answer by itself.
    """
    options: dict[str, Any] = parse_url(url) | {
        "protocol": 2,
        "driver_info": None,
        "socket_connect_timeout": CONNECT_SECONDS,
        "socket_timeout": ANSWER_SECONDS,
        "retry": None,
        "retry_on_timeout": False,
        "health_check_interval": 0,
    }
    kind = options.pop("connection_class", redis.Connection)
    login = [options.pop(name) for name in ("username", "password") if name in options]
    database = options.pop("db", 0)
    greeting: list[Command] = [("AUTH", *login)] if login else []
    return partial(kind, **options), greeting + ([("SELECT", database)] if database else [])


def _packed(commands: Iterable[Command]) -> list[bytes]:
    return [b"".join(hiredis.pack_command(tuple(command)) for command in commands)]  # type: ignore[arg-type]


class ServerWire:
    """One Redis server, and as many idle connections to it as were lately used at once."""

    def __init__(self, url: str, scripts: Scripts) -> None:
        self._scripts = scripts
        self._idle: deque[tuple[ConnectionInterface, float]] = deque()
        self._connection, self._greeting = _connections(url)

    def call(self, partition: int, *commands: Command, wait_seconds: float = 0, once: bool = False) -> list[Any]:
        replies = self.exchange(commands, wait_seconds, once)
        for reply in replies:
            if isinstance(reply, Exception):
                raise unavailable(reply)
        return replies

    def exchange(self, commands: Sequence[Command], wait_seconds: float, once: bool) -> list[Any]:
        """The answers, errors among them; a lost connection raises."""
        packed = _packed(commands)
        try:
            connection, _ = self._idle.pop()
        except IndexError:
            replies = self._exchange_anew(packed, len(commands), wait_seconds)
        else:
            seconds = wait_seconds + ANSWER_SECONDS if wait_seconds else 0  # the socket's own; another one costs
            try:
                replies = self._exchange_on(connection, packed, len(commands), seconds)
            except ConnectionError as error:
                self._forget_idle()
                if once:
                    raise unavailable(error) from error
                replies = self._exchange_anew(packed, len(commands), wait_seconds)
        for place, reply in enumerate(replies):
            if isinstance(reply, NoScriptError):
                replies[place] = self.exchange([self._scripts.reload(commands[place])], wait_seconds, once)[0]
        return replies

    def _exchange_anew(self, packed: list[bytes], count: int, wait_seconds: float) -> list[Any]:
        until = time.monotonic() + ANSWER_SECONDS
        connection = self._connection()
        try:
            connection.connect()
            self._greet(connection, until)
        except BaseException as error:
            connection.disconnect()
            if isinstance(error, (RedisError, OSError)):
                raise Unreachable(str(unavailable(error))) from error
            raise
        try:
            return self._exchange_on(connection, packed, count, wait_seconds + _left(until))
        except (RedisError, OSError) as error:
            raise unavailable(error) from error

    def _greet(self, connection: ConnectionInterface, until: float) -> None:
        if self._greeting:
            connection.send_packed_command(_packed(self._greeting), check_health=False)
        for _ in self._greeting:
            connection.read_response(timeout=_left(until))

    def _exchange_on(
        self, connection: ConnectionInterface, packed: list[bytes], count: int, seconds: float
    ) -> list[Any]:
        replies: list[Any] = []
        stale = False
        timeout = {"timeout": seconds} if seconds else {}
        try:
            connection.send_packed_command(packed, check_health=False)
            for _ in range(count):
                try:
                    replies.append(connection.read_response(**timeout))
                except ResponseError as error:
                    stale = stale or isinstance(error, REPLICA)
                    replies.append(error)
        except TimeoutError as error:
            connection.disconnect()
            raise unavailable(error) from error
        except BaseException:
            # Also when a handler's thread is interrupted: half an answer must not meet the next command.
            connection.disconnect()
            raise
        if stale:
            connection.disconnect()
            self._forget_idle()  # after a failover the address leads to another server
        else:
            self._keep(connection)
        return replies

    def _keep(self, connection: ConnectionInterface) -> None:
        """The one that is kept last is taken first, so that what is too many comes to the other end."""
        now = time.monotonic()
        try:
            if self._idle[0][1] < now - IDLE_SECONDS:
                self._idle.popleft()[0].disconnect()
        except IndexError:
            pass  # all are in use
        self._idle.append((connection, now))

    def _forget_idle(self) -> None:
        with suppress(IndexError):  # others may take them at the same time
            while True:
                self._idle.pop()[0].disconnect()

    def close(self) -> None:
        self._forget_idle()


def _left(until: float) -> float:
    return max(until - time.monotonic(), 0.001)


class ClusterWire:
    """A Redis Cluster: a partition is one slot (rule 2), so each has one server, found by its MOVED.

    Nodes come and go: from time to time, and after each detour, one that answers is asked for all of them.
    """

    LEARN_SECONDS: Final = 60.0

    def __init__(self, urls: Sequence[str], scripts: Scripts) -> None:
        self._scripts = scripts
        self._template = urlsplit(urls[0])
        self._named = [urlsplit(url).netloc.rpartition("@")[2] for url in urls]
        self.addresses = self._named
        self._servers: dict[str, ServerWire] = {}
        self._homes: dict[int, str] = {}
        self._learn_at = 0.0

    def call(self, partition: int, *commands: Command, wait_seconds: float = 0, once: bool = False) -> list[Any]:
        until = time.monotonic() + ANSWER_SECONDS  # for the last try to begin
        problem: Exception = StoreUnavailable("no node of the cluster answered")
        untried = self._order(partition)
        tried: list[str] = []
        while untried and time.monotonic() < until:
            address = untried.pop(0)
            tried.append(address)
            try:
                replies = self._server(address).exchange(commands, wait_seconds, once)
            except StoreUnavailable as error:
                self._avoid(address, partition)
                if once and not isinstance(error, Unreachable):
                    raise
                problem = error
                continue
            failure = next((reply for reply in replies if isinstance(reply, Exception)), None)
            if failure is None:
                self._homes[partition] = address
                if len(tried) > 1 or self._learn_at < time.monotonic():
                    self._learn(address)
                return replies
            if not isinstance(failure, MovedError):
                raise unavailable(failure)
            home = _address(failure.host, failure.port, address)
            if home in tried:
                break  # the slot's server is away; a second try would take too long
            untried = [home, *(other for other in untried if other != home)]
        raise unavailable(problem)

    def _order(self, partition: int) -> list[str]:
        home = self._homes.get(partition, self.addresses[0])
        return list(dict.fromkeys([home, *self.addresses]))

    def _server(self, address: str) -> ServerWire:
        server = self._servers.get(address)
        if server is None:
            login = self._template.netloc.rpartition("@")[0]
            url = urlunsplit(self._template._replace(netloc=f"{login}@{address}" if login else address))
            server = self._servers[address] = ServerWire(url, self._scripts)
        return server

    def _avoid(self, address: str, partition: int) -> None:
        """The next call begins elsewhere."""
        self._homes.pop(partition, None)
        self.addresses = sorted(self.addresses, key=lambda known: known == address)

    def _learn(self, teller: str) -> None:
        """All nodes; those that were named stay as the last resort."""
        self._learn_at = time.monotonic() + self.LEARN_SECONDS
        try:
            [shards] = self._server(teller).call(0, ("CLUSTER", "SLOTS"))
        except (StoreUnavailable, StoreRefused):
            return
        nodes = [node for _, _, *members in shards for node in members]
        known = [_address((host or b"").decode(), port, teller) for host, port, *_ in nodes]
        self.addresses = list(dict.fromkeys(known + self._named))
        for gone in set(self._servers).difference(self.addresses):
            if server := self._servers.pop(gone, None):  # not yet, by another thread
                server.close()

    def close(self) -> None:
        for server in self._servers.values():
            server.close()


def _address(host: str, port: int, teller: str) -> str:
    """As a URL has it. A node whose host is not known has that of the one that tells of it."""
    if host in ("", "?"):
        host = str(urlsplit(f"//{teller}").hostname)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


_REASONS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (BusyLoadingError, "is loading its data"),
    (ReadOnlyError, "is read-only"),
    (OutOfMemoryError, "is out of memory"),
    (MasterDownError, "has lost its master"),
    (ClusterDownError, "is a cluster that is down"),
    (TryAgainError, "is moving the slot"),
    (AskError, "is moving the slot"),
    (AuthenticationError, "does not accept the password"),
    (TimeoutError, "does not answer in time"),
    (ConnectionError, "cannot be reached"),
)
_REASONS_BY_CODE: Final = {
    "OOM": "is out of memory",
    "READONLY": "is read-only",
    "LOADING": "is loading its data",
    "MISCONF": "cannot write to its disk",
    "BUSY": "is busy with a script",
    "NOREPLICAS": "has too few replicas",
}


def unavailable(error: Exception) -> Exception:
    """What a fault of Redis means to the service; an error of our own making stays what it is."""
    if isinstance(error, StoreUnavailable):
        return error
    text = str(error)
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return _chained(f"Redis {reason}", error)
    for code, reason in _REASONS_BY_CODE.items():
        if text.startswith(code) or f"-{code} " in text:
            return _chained(f"Redis {reason}", error)
    if isinstance(error, OSError):
        return _chained("Redis cannot be reached", error)
    if isinstance(error, RedisError):
        refusal = StoreRefused(text)
        refusal.__cause__ = error
        return refusal
    return error


def _chained(message: str, cause: Exception) -> StoreUnavailable:
    failure = StoreUnavailable(message)
    failure.__cause__ = cause
    return failure


def connect(url: str, scripts: Iterable[Script]) -> Wire:
    """A Redis by its URL: redis://, rediss://, unix://, or redis+cluster://host:port,host:port."""
    known = Scripts(scripts)
    if url.startswith("redis+cluster://"):
        parts = urlsplit(url.removeprefix("redis+cluster:"), scheme="redis")
        login, _, hosts = parts.netloc.rpartition("@")
        return ClusterWire(
            [f"redis://{login}@{host}" if login else f"redis://{host}" for host in hosts.split(",")], known
        )
    return ServerWire(url, known)
