"""A service behind nginx that does what a test wants, on a unix socket, and remembers what it was asked."""

import json
import socket
import socketserver
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, NamedTuple


class Request(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]  # names in small letters
    body: bytes
    connection: int


class Upstream:
    def __init__(self, path: Path) -> None:
        self.requests: list[Request] = []
        self.answer: Callable[[Handler, Request], None] = told_back
        self._open: set[socket.socket] = set()
        self._connections = 0
        self._lock = threading.Lock()
        self._server = Server(str(path), type("HandlerOfThis", (Handler,), {"upstream": self}))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self.break_connections()

    def break_connections(self) -> None:
        """As when a process of the service dies."""
        with self._lock:
            for connection in self._open:
                connection.shutdown(socket.SHUT_RDWR)

    def began(self, connection: socket.socket) -> int:
        with self._lock:
            self._open.add(connection)
            self._connections += 1
            return self._connections

    def ended(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.discard(connection)

    @property
    def connections(self) -> int:
        """So many came with a request."""
        return len({request.connection for request in self.requests})


class Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 128


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upstream: Upstream

    def setup(self) -> None:
        super().setup()
        self.number = self.upstream.began(self.connection)

    def finish(self) -> None:
        self.upstream.ended(self.connection)
        super().finish()

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def __getattr__(self, name: str) -> Callable[[], None]:
        if name.startswith("do_"):
            return self._do
        raise AttributeError(name)

    def _do(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, body, self.number)
        self.upstream.requests.append(request)
        self.upstream.answer(self, request)

    def send(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def break_off(self) -> None:
        """The request was read; no answer comes."""
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: Any) -> None:
        pass


def told_back(handler: Handler, request: Request) -> None:
    """As the service does it, with the id of the request."""
    told = json.dumps({"path": request.path, "headers": request.headers, "bytes": len(request.body)}).encode()
    handler.send(200, told, Content_Type="application/json", X_Request_ID=request.headers["x-request-id"])


def broken_off(times: int) -> Callable[[Handler, Request], None]:
    """The first so often, then answered."""
    left = iter(range(times))

    def answer(handler: Handler, request: Request) -> None:
        if next(left, None) is None:
            told_back(handler, request)
        else:
            handler.break_off()

    return answer
