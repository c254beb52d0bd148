"""A StatsD that only reads, and keeps each datagram."""

import contextlib
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from tests.servers import eventually


class Sink:
    def __init__(self, port: int = 0) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * 1024 * 1024)
        self._socket.bind(("127.0.0.1", port))
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]
        self.datagrams: list[bytes] = []

    def close(self) -> None:
        self._socket.close()

    def read(self) -> list[bytes]:
        """All datagrams so far."""
        with contextlib.suppress(BlockingIOError):
            while True:
                self.datagrams.append(self._socket.recv(65535))
        return self.datagrams

    def values(self) -> Iterator[tuple[str, float, str]]:
        """Name, number and kind, one by one, as StatsD takes them apart."""
        for datagram in self.read():
            for line in datagram.decode("ascii").split("\n"):
                name, *values = line.split(":")
                for value in values:
                    number, kind = value.split("|")
                    yield name, float(number), kind

    def counts(self) -> Counter[str]:
        """The sum of each counter, and the number of values of each timer."""
        counts: Counter[str] = Counter()
        for name, number, kind in self.values():
            counts[name] += {"c": int(number), "ms": 1}.get(kind, 0)
        return counts

    def gauges(self) -> dict[str, float]:
        return {name: number for name, number, kind in self.values() if kind == "g"}

    def eventually(self, condition: Callable[["Sink"], Any], seconds: float = 10.0) -> Any:
        """If it never comes true, what did arrive is told."""
        try:
            return eventually(lambda: condition(self), seconds)
        except AssertionError as error:
            error.add_note(f"{len(self.read())} datagrams arrived: {self.counts()}, {self.gauges()}")
            raise
