"""Sends lines to StatsD by UDP. Nobody waits for it, and nothing is raised: what cannot be sent is lost.

The host's name is looked up in a thread, at the start and again each minute: one that does not resolve,
or that moves, costs those who send nothing. The socket does not block; it is connected, so that the
kernel tells when nobody listens there, which the log tells once a minute.
"""

import contextlib
import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

LARGEST_BYTES: Final = 1432  # what an Ethernet frame carries, whatever lies between
LOOK_SECONDS: Final = 60.0
LOOK_AGAIN_SECONDS: Final = 5.0
COMPLAIN_SECONDS: Final = 60.0

log = logging.getLogger("sandbox.statsd")


class StatsD:
    def __init__(
        self,
        host: str,
        port: int,
        *,
        look_up: Callable[..., list[Any]] = socket.getaddrinfo,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host = host
        self._port = port
        self._look_up = look_up
        self._clock = clock
        self._socket: socket.socket | None = None
        self._address: Any = None
        self._look_at = 0.0
        self._looking = False
        self._complain_at = 0.0
        if _is_address(host):
            self._look_at = self._clock() + LOOK_SECONDS
            self._look()  # takes no time, and the first datagram arrives
        else:
            self._look_in_background()

    def send(self, lines: Iterable[str]) -> None:
        """In as few datagrams as will hold them."""
        if self._clock() >= self._look_at and not self._looking:
            self._look_in_background()
        for datagram in packed(lines) if self._socket is not None else ():
            self._send(datagram)

    def close(self) -> None:
        self._looking = True
        if self._socket is not None:
            self._socket.close()

    def _send(self, datagram: bytes) -> None:
        channel = self._socket
        if channel is None:
            return
        try:
            channel.send(datagram)
        except ConnectionRefusedError as error:
            self._complain(error)
            with contextlib.suppress(OSError):
                channel.send(datagram)  # it was an earlier one that was refused; this one may find a listener
        except OSError as error:
            self._complain(error)

    def _look_in_background(self) -> None:
        self._looking = True
        self._look_at = self._clock() + LOOK_SECONDS
        try:
            threading.Thread(target=self._look, name="statsd", daemon=True).start()
        except RuntimeError:  # no thread is to be had, or the process ends
            self._looking = False

    def _look(self) -> None:
        try:
            family, _, _, _, address = self._look_up(self._host, self._port, type=socket.SOCK_DGRAM)[0]
            if address != self._address:
                self._connect(family, address)
        except (OSError, UnicodeError) as error:  # UnicodeError: what is no name at all
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


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def packed(lines: Iterable[str]) -> Iterator[bytes]:
    """Datagrams that together hold the lines, none longer than one packet of the network."""
    held: list[bytes] = []
    size = -1
    for line in lines:
        text = line.encode("ascii", "replace")
        if held and size + 1 + len(text) > LARGEST_BYTES:
            yield b"\n".join(held)
            held, size = [], -1
        held.append(text)
        size += 1 + len(text)
    if held:
        yield b"\n".join(held)
