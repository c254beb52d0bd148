"""A Redis Cluster."""

import time
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from redis.exceptions import (
    MovedError,
)

from service.errors import StoreRefused, StoreUnavailable
from service.store.connection.commands import Command, Scripts, Subscription
from service.store.connection.faults import Unreachable, unavailable
from service.store.connection.one_server import ANSWER_SECONDS, ServerWire


class ClusterWire:
    """A Redis Cluster. A partition is one slot (docs/store.md, One slot), so it has one server; MOVED tells which.

    Nodes come and go. So a node that answers is asked for all of them: from time to time, and after each detour.
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

    def together(self, partitions: int) -> list[list[int]]:
        """Each is a slot, and a command may name the keys of one slot only."""
        return [[partition] for partition in range(partitions)]

    def subscribe(self, partition: int, channel: str) -> Subscription:
        """At the slot's server, which a command finds."""
        self.call(partition, ("EXISTS", channel))
        return self._server(self._order(partition)[0]).subscribe(partition, channel)

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
        """Asks for all nodes. Those of the URL stay as the last resort."""
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
    """As in a URL. A node that does not know its own host is on the host of the node that tells of it."""
    if host in ("", "?"):
        host = str(urlsplit(f"//{teller}").hostname)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
