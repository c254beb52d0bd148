"""Sentry servers for the tests: one that keeps what it gets, and ones that misbehave."""

import gzip
import json
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Mapping
from typing import Any

from tests.servers import eventually

TAKES = "takes"
HANGS = "hangs"
DRIPS = "drips"
HANGS_UP = "hangs up"
BABBLES = "babbles"


class Sink:
    """Answers each connection in a thread of its own. `behaviour` may be changed at any time: a word, or a status.

    What holds the bytes `spoilt` gets a 502, or the status that `spoilt_status` says, whatever the behaviour.
    """

    def __init__(self, behaviour: str | int = TAKES, *, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.behaviour = behaviour
        self.headers: Mapping[str, str] = {}
        self.delay_seconds = 0.0
        self.spoilt: bytes | None = None
        self.spoilt_status = 502
        self.events: list[dict[str, Any]] = []
        self.requests: list[str] = []
        self.times: list[float] = []
        self._tls = tls
        self._over = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", port))
        self._listener.settimeout(0.05)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def dsn(self) -> str:
        return f"http{'s' if self._tls else ''}://thekey@127.0.0.1:{self.port}/7"

    def expect(self, count: int, seconds: float = 10.0) -> list[dict[str, Any]]:
        eventually(lambda: len(self.events) >= count, seconds)
        return self.events

    def stop(self) -> None:
        self._over.set()
        self._thread.join()
        self._listener.close()

    def _serve(self) -> None:
        while not self._over.is_set():
            try:
                client, _ = self._listener.accept()
            except TimeoutError:
                continue
            client.settimeout(10)
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()

    def _answer(self, client: socket.socket) -> None:
        try:
            with self._tls.wrap_socket(client, server_side=True) if self._tls else client as connection:
                self.times.append(time.monotonic())
                self._exchange(connection)
        except OSError:
            return

    def _exchange(self, connection: socket.socket) -> None:
        behaviour = self.behaviour
        if behaviour == HANGS:
            self._over.wait(60)
            return
        head, body = _request(connection)
        self.requests.append(head)
        if behaviour == HANGS_UP:
            return
        if behaviour == DRIPS:
            for byte in b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 100:
                connection.sendall(bytes((byte,)))
                if self._over.wait(1):
                    return
        if behaviour == BABBLES:
            connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
            return
        self._over.wait(self.delay_seconds)
        status = 200 if behaviour == TAKES else int(behaviour)
        if self.spoilt is not None and self.spoilt in _unpacked(head.lower(), body):
            status = self.spoilt_status
        if status == 200:
            self.events.append(_event(head, body))
        lines = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        connection.sendall(f"HTTP/1.1 {status} X\r\n{lines}Content-Length: 2\r\n\r\n{{}}".encode())


def _request(connection: socket.socket) -> tuple[str, bytes]:
    received = b""
    while b"\r\n\r\n" not in received:
        received += _more(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.splitlines() if line.lower().startswith(b"content-length"))
    while len(body) < length:
        body += _more(connection)
    return head.decode(), body


def _more(connection: socket.socket) -> bytes:
    received = connection.recv(65536)
    if not received:
        raise ConnectionError
    return received


def _event(head: str, body: bytes) -> dict[str, Any]:
    """From the store protocol, or an envelope."""
    content = _unpacked(head.lower(), body)
    if "/envelope/" in head.partition("\r\n")[0]:
        return dict(json.loads(content.splitlines()[2]))
    return dict(json.loads(content))


def _unpacked(head: str, body: bytes) -> bytes:
    if "content-encoding: deflate" in head:
        return zlib.decompress(body)
    return gzip.decompress(body) if "content-encoding: gzip" in head else body


MakeSink = Callable[..., Sink]
