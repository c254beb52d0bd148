"""One Redis server: pooled connections, scripts by digest, faults named once.

redis-py opens the connections (URLs, passwords, TLS) and parses the answers; this module sends
many commands with one write, which costs a third of `redis.Redis.execute_command`.

A command may be sent twice: on a pooled connection that turns out to be dead, and again on a fresh one.
A script that compares before it changes bears that (docs/store.md, Compare first). A command that hands out
entries does not: the first answer would be lost, and nobody would know of the entries. It is sent `once`.
"""

import os
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final
from weakref import WeakSet

import hiredis
import redis
from redis.connection import ConnectionInterface, parse_url
from redis.exceptions import (
    ConnectionError,
    MasterDownError,
    NoScriptError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TimeoutError,
)

from service.errors import StoreUnavailable
from service.store.connection.commands import Command, Scripts, Subscription
from service.store.connection.faults import unavailable, unreachable

CONNECT_SECONDS: Final = 0.5
ANSWER_SECONDS: Final = 0.9  # a request makes two calls, and is to be answered within two seconds
IDLE_SECONDS: Final = 10.0
CONTEXT_SECONDS: Final = 10.0

STANDARD: Final = (0, 1, 2)  # the descriptors of standard input, output and error

REPLICA: Final = (ReadOnlyError, MasterDownError)


def _connections(url: str) -> tuple[Callable[[], ConnectionInterface], list[Command]]:
    """Returns what makes connections to the URL, and the commands that come first on each.

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
    if kind is redis.SSLConnection and not any("ocsp" in name for name in options):  # which each connection asks for
        kind = partial(_TlsConnection, _Context())
    login = [options.pop(name) for name in ("username", "password") if name in options]
    database = options.pop("db", 0)
    greeting: list[Command] = [("AUTH", *login)] if login else []
    return partial(kind, **options), greeting + ([("SELECT", database)] if database else [])


class _Context:
    """What TLS connections have in common. It is made anew after some seconds, as its files may have changed."""

    found: ssl.SSLContext | None = None
    until = 0.0


class _TlsConnection(redis.SSLConnection):
    """redis-py reads all authorities of the system for each connection: 40 ms in which a web worker is deaf."""

    def __init__(self, shared: _Context, **options: Any) -> None:
        self._shared = shared
        super().__init__(**options)

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> ssl.SSLSocket:
        shared = self._shared
        if shared.found is not None and time.monotonic() < shared.until:
            return shared.found.wrap_socket(sock, server_hostname=self.host)
        wrapped: ssl.SSLSocket = super()._wrap_socket_with_ssl(sock)  # type: ignore[no-untyped-call]
        shared.found, shared.until = wrapped.context, time.monotonic() + CONTEXT_SECONDS
        return wrapped


def _address(connection: Any) -> str:
    if isinstance(connection, redis.UnixDomainSocketConnection):
        return str(connection.path)
    return f"{connection.host}:{connection.port}"


def _packed(commands: Iterable[Command]) -> list[bytes]:
    return [b"".join(hiredis.pack_command(tuple(command)) for command in commands)]  # type: ignore[arg-type]


class ServerWire:
    """One Redis server, with a pool of as many idle connections as were lately in use at once. A forked child makes its
    own: on a connection of both, each would read the other's answers.
    """

    def __init__(self, url: str, scripts: Scripts) -> None:
        self._scripts = scripts
        self._idle: deque[tuple[ConnectionInterface, float]] = deque()
        self._connection, self._greeting = _connections(url)
        _wires.add(self)

    def call(self, partition: int, *commands: Command, wait_seconds: float = 0, once: bool = False) -> list[Any]:
        replies = self.exchange(commands, wait_seconds, once)
        for reply in replies:
            if isinstance(reply, Exception):
                raise unavailable(reply)
        return replies

    def together(self, partitions: int) -> list[list[int]]:
        return [list(range(partitions))]

    def exchange(self, commands: Sequence[Command], wait_seconds: float, once: bool) -> list[Any]:
        """Returns the answers, errors among them. Raises when the connection is lost."""
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

    def subscribe(self, partition: int, channel: str) -> Subscription:
        until = time.monotonic() + ANSWER_SECONDS
        connection = self._connect(until)
        try:
            return ServerSubscription(connection, channel, until)
        except (RedisError, OSError) as error:
            connection.disconnect()
            raise unavailable(error) from error

    def _exchange_anew(self, packed: list[bytes], count: int, wait_seconds: float) -> list[Any]:
        until = time.monotonic() + ANSWER_SECONDS
        connection = self._connect(until)
        try:
            return self._exchange_on(connection, packed, count, wait_seconds + _left(until))
        except (RedisError, OSError) as error:
            raise unavailable(error) from error

    def _connect(self, until: float) -> ConnectionInterface:
        _hold_standard()
        connection = self._connection()
        try:
            connection.connect()
            self._greet(connection, until)
        except BaseException as error:
            connection.disconnect()
            if isinstance(error, (RedisError, OSError)):
                raise unreachable(error, _address(connection)) from error
            raise
        return connection

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
            self._forget_idle()  # a firewall that has forgotten this one may have forgotten all
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
        """The newest is taken first. So those that are too many age at the other end, and are closed there."""
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


_wires: Final = WeakSet[ServerWire]()


def _start_over() -> None:
    """In a forked child. redis-py only closes there: it shuts down nothing that another process has opened."""
    for wire in _wires:
        wire.close()


os.register_at_fork(after_in_child=_start_over)


class ServerSubscription:
    """When nothing is heard for a while it asks whether the server is still there."""

    def __init__(self, connection: ConnectionInterface, channel: str, until: float) -> None:
        self._connection = connection
        self._send("SSUBSCRIBE", channel)
        self._read(_left(until))

    def next(self, seconds: float) -> bytes | None:
        try:
            if not self._connection.can_read(timeout=seconds):
                self._send("PING")
            kind, *_, text = self._read(ANSWER_SECONDS)
        except (RedisError, OSError) as error:
            raise unavailable(error) from error
        if kind == b"sunsubscribe":
            raise StoreUnavailable("Redis is moving the slot")
        return bytes(text) if kind == b"smessage" else None

    def _send(self, *command: str) -> None:
        self._connection.send_packed_command(_packed([command]), check_health=False)

    def _read(self, seconds: float) -> Sequence[bytes]:
        answer: Sequence[bytes] = self._connection.read_response(timeout=seconds)
        return answer

    def close(self) -> None:
        self._connection.disconnect()


def _hold_standard() -> None:
    """If a handler has closed standard output, a connection would get its number, and what is printed from then on
    would be commands to Redis. The log's caretaker soon has it lead to its file again.
    """
    for number in STANDARD:
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number


def _left(until: float) -> float:
    return max(until - time.monotonic(), 0.001)
