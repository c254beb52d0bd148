"""Sends metrics to StatsD. Nobody waits for it, nothing raises, and what cannot be sent at once is lost.

The lines are made by the package `statsd`; sending is our own. A thread looks up the host's name at the start and
then once a minute, so a name that does not resolve, or that moves, holds up nobody. The socket does not block. It is
connected, so that the kernel reports when nobody listens; the log says so once a minute.
"""

import contextlib
import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from statsd.client.base import StatsClientBase
from statsd.client.udp import Pipeline

LARGEST_BYTES: Final = 1432  # fits into an Ethernet frame, with room for tunnels
VALUES_A_LINE: Final = 64
LOOK_SECONDS: Final = 60.0
LOOK_AGAIN_SECONDS: Final = 5.0
COMPLAIN_SECONDS: Final = 60.0

log = logging.getLogger("sandbox.statsd")

Later: TypeAlias = Callable[[Callable[[], None]], object]


class Together(Pipeline):  # type: ignore[misc]
    """Metrics that go out together, in as few datagrams as possible."""

    def add(self, line: str) -> None:
        self._stats.append(line)

    def timings(self, name: str, milliseconds: Sequence[str]) -> None:
        """Values of a timer share a line (`name:1|ms:2|ms`); StatsD counts each."""
        values = [f"{value}|ms" for value in milliseconds]
        for begin in range(0, len(values), VALUES_A_LINE):
            self._send_stat(name, ":".join(values[begin : begin + VALUES_A_LINE]), 1)


class StatsD(StatsClientBase):  # type: ignore[misc]
    def __init__(
        self,
        host: str,
        port: int,
        prefix: str = "",
        *,
        later: Later | None = None,
        look_up: Callable[..., list[Any]] = socket.getaddrinfo,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`later` calls a function in a moment. Whatever is told until then goes out together."""
        self._prefix = prefix
        self._maxudpsize = LARGEST_BYTES + 1  # the package stays below it
        self._host = host
        self._port = port
        self._later = later
        self._told: list[str] = []
        self._look_up = look_up
        self._clock = clock
        self._socket: socket.socket | None = None
        self._address: Any = None
        self._look_at = 0.0
        self._looking = False
        self._complain_at = 0.0
        if _is_address(host):
            self._look_at = self._clock() + LOOK_SECONDS
            self._look()  # takes no time, so the first datagram is not lost
        else:
            self._look_in_background()

    @property
    def prefix(self) -> str:
        return str(self._prefix)

    def is_ready(self) -> bool:
        self._look_if_due()
        return self._socket is not None

    def pipeline(self) -> Together:
        return Together(self)

    def tell(self, lines: str) -> None:
        """Sends whole lines, which have the prefix already."""
        self._told.append(lines)
        if self._later is None:
            self._tell_all()
        elif len(self._told) == 1:
            try:
                self._later(self._tell_all)
            except Exception:  # the process ends: there is no later
                self._tell_all()

    def _tell_all(self) -> None:
        lines, self._told = "\n".join(self._told), []
        if len(lines) < self._maxudpsize:
            self._send(lines)
            return
        with self.pipeline() as told:
            for line in lines.split("\n"):
                told.add(line)

    def close(self) -> None:
        self._looking = True
        if self._socket is not None:
            self._socket.close()

    def _send(self, text: str) -> None:
        self._look_if_due()
        channel = self._socket
        if channel is None:
            return
        datagram = text.encode("ascii", "replace")
        try:
            channel.send(datagram)
        except ConnectionRefusedError as error:
            self._complain(error)
            with contextlib.suppress(OSError):
                channel.send(datagram)  # an earlier one was refused; this one may arrive
        except OSError as error:
            self._complain(error)

    def _look_if_due(self) -> None:
        if self._clock() >= self._look_at and not self._looking:
            self._look_in_background()

    def _look_in_background(self) -> None:
        self._look_at = self._clock() + LOOK_SECONDS
        try:
            self._looking = True
            threading.Thread(target=self._look, name="statsd", daemon=True).start()
        except RuntimeError:  # there are too many threads, or the process ends
            self._looking = False
        except BaseException:  # a handler that creates a task is interrupted
            self._looking = False
            raise

    def _look(self) -> None:
        try:
            found = self._look_up(self._host, self._port, type=socket.SOCK_DGRAM)
            family, _, _, _, address = min(found, key=_is_not_ipv4)
            if address != self._address:
                self._connect(family, address)
        except (OSError, UnicodeError) as error:  # UnicodeError: not a host's name at all
            self._look_at = self._clock() + LOOK_AGAIN_SECONDS
            self._complain(error)
        finally:
            self._looking = False

    def _connect(self, family: int, address: Any) -> None:
        fresh = socket.socket(family, socket.SOCK_DGRAM)
        fresh.setblocking(False)
        fresh.connect(address)
        former, self._socket, self._address = self._socket, fresh, address
        if former is not None:
            former.close()

    def _complain(self, error: Exception) -> None:
        if (now := self._clock()) >= self._complain_at:
            self._complain_at = now + COMPLAIN_SECONDS
            log.warning("metrics do not reach StatsD at %s, port %d: %s", self._host, self._port, error)


def _is_not_ipv4(found: tuple[Any, ...]) -> bool:
    """IPv4 comes first: StatsD listens there unless told otherwise, but `localhost` may be ::1 first."""
    return bool(found[0] != socket.AF_INET)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
