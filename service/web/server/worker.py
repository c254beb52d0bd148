"""gunicorn's worker: gevent's, with deadlines for slow clients and an end that drops nothing.

A connection's first request must be complete 10 s after it was opened, a later one 10 s after its first byte; that
byte may take 75 s to come. The application gets complete requests only, so a slow client costs a greenlet and nothing
else. A worker has a number of places for clients. When four fifths are taken, it closes idle connections, those first
that were answered longest ago.

The end, by a signal or because the arbiter died: the worker accepts no more; answers clients that wait for a task,
and ends streams of events; lets requests in flight end; gives idle clients a moment in which it answers a last request,
with `Connection: close`; then closes them. Who has been silent for longer than such a moment is closed at once.
"""

import atexit
import io
import os
import signal
import socket
import sys
import time
from collections import OrderedDict
from contextlib import suppress
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from typing import Any, Final, NoReturn, Protocol

import gevent
from gevent.event import Event
from gevent.pool import Pool
from gevent.server import StreamServer
from gunicorn.arbiter import Arbiter
from gunicorn.http import errors
from gunicorn.http.body import LengthReader
from gunicorn.http.parser import RequestParser
from gunicorn.http.unreader import SocketUnreader
from gunicorn.workers.base import Worker as BaseWorker
from gunicorn.workers.ggevent import GeventResponse, GeventWorker

from service.observe import log_file
from service.web import problem, request_id
from service.web.body import BODY_LIMIT
from service.web.problem import Problem
from service.web.server import capacity

SEND_SECONDS: Final = 60.0
LINGER_SECONDS: Final = 1.0
LINGER_BYTES: Final = 4 * 1024 * 1024
TURN_BYTES: Final = 64 * 1024  # that a client may send before others have their turn
DRAIN_POLL_SECONDS: Final = 0.02
NOTIFY_SECONDS: Final = 1.0
FIRST_REQUEST: Final = b"GET /health/ready?exclude=runners HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
HEAD_END: Final = "\r\n\r\n"

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


def lose_no_signal_at_fork() -> None:
    """For the arbiter: a signal to stop simply ends a new worker that has no handlers of its own yet.

    Stock gunicorn loses that signal, because the worker still has the arbiter's handlers; and the arbiter waits for
    the worker until the graceful timeout.
    """
    os.register_at_fork(before=_hold_signals, after_in_parent=_release_signals, after_in_child=_take_signals)


def _hold_signals() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)


def _release_signals() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


def _take_signals() -> None:
    for signum in STOP_SIGNALS:
        signal.signal(signum, signal.SIG_DFL)
    _release_signals()


def end_at_once() -> NoReturn:
    """Ends without taking the interpreter apart: that work would slow down the processes that serve."""
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


class LongClients(Protocol):
    """Clients that wait for a task, or read its events. The application knows them."""

    def leave_room(self, most: int) -> None: ...

    def release(self) -> None: ...


class TooSlow(TimeoutError):
    """A request was not complete in time. The application sees it while it reads a large body."""


class Connection(SocketUnreader):  # type: ignore[misc]
    """A client's socket, read against a deadline. It is idle between requests."""

    def __init__(self, sock: Any, *, request_seconds: float, idle_seconds: float) -> None:
        super().__init__(sock)
        self._request_seconds = request_seconds
        self._idle_seconds = idle_seconds
        self._deadline: float | None = time.monotonic() + request_seconds
        self._turn_bytes = 0
        self.idle = True
        self.idle_since = time.monotonic()
        self.linger = False

    def chunk(self, size_hint: int | None = None) -> bytes:
        self.sock.settimeout(self._patience())
        try:
            received: bytes = super().chunk(size_hint)
        except TimeoutError:
            if self.idle:
                return b""
            raise TooSlow from None
        if self.idle:
            self.idle = False
            if self._deadline is None:
                self._deadline = time.monotonic() + self._request_seconds
        self._give_way(len(received))
        return received

    def _patience(self) -> float:
        if self._deadline is None:
            return self._idle_seconds
        left = self._deadline - time.monotonic()
        if left <= 0 and not self.idle:
            raise TooSlow
        return max(0.001, left)

    def _give_way(self, received: int) -> None:
        """While data flow, reading them never waits; and what they say may take long to parse."""
        self._turn_bytes += received
        if self._turn_bytes >= TURN_BYTES:
            self._turn_bytes = 0
            gevent.sleep(0)

    def rest(self) -> None:
        """A request has been answered. The next one may have come with it."""
        pipelined = self.buf.tell() > 0
        self.idle = not pipelined
        self.idle_since = time.monotonic()
        self._deadline = self.idle_since + self._request_seconds if pipelined else None

    def wake(self) -> None:
        """Ends the wait for a next request. One that is on its way is still read.

        By the kernel's own shutdown: gevent's would throw away what has arrived.
        """
        with suppress(OSError):
            self.sock._sock.shutdown(socket.SHUT_RD)

    def close(self) -> None:
        with suppress(OSError):
            if self.linger:
                self._discard()
        self.sock.close()

    def _discard(self) -> None:
        """Reads on for a moment: to close with unread data makes the client lose the answer."""
        self.sock.shutdown(socket.SHUT_WR)
        until = time.monotonic() + LINGER_SECONDS
        left = LINGER_BYTES
        while left > 0 and (patience := until - time.monotonic()) > 0:
            self.sock.settimeout(patience)
            received = self.sock.recv(65536)
            if not received:
                return
            left -= len(received)


class LargeBody:
    """A body in chunks: what was read of it, and behind that what was not. A few calls take more than others."""

    def __init__(self, begun: bytes, rest: Any) -> None:
        self._begun = io.BytesIO(begun)
        self._rest = rest

    def read(self, size: int) -> bytes:
        begun = self._begun.read(size)
        try:
            rest: bytes = self._rest.read(size - len(begun))
        except errors.ParseException as error:  # of a chunk, or of what comes after the last one
            raise OSError(str(error)) from error
        return begun + rest


class Worker(GeventWorker):  # type: ignore[misc]
    request_seconds = 10.0
    last_request_seconds = 2.0
    grace_seconds = 30.0
    partitions = 1
    alive: bool

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.worker_connections = capacity.clients(self.partitions)
        self._crowd = self.worker_connections * 4 // 5
        self._connections: set[Connection] = set()
        self._answered: OrderedDict[Connection, None] = OrderedDict()  # the longest ago first; some ask again
        self._stop: Event | None = None

    # --- life ------------------------------------------------------------------------------------

    def run(self) -> None:
        self._stop = Event()
        for clients in self._long_ones():
            clients.leave_room(self._crowd)
        servers = [self._server(listener) for listener in self.sockets]
        while self.alive:
            self.notify()
            self._dismiss(len(self._connections) - self._crowd)
            self._stop.wait(NOTIFY_SECONDS)
        self._drain(servers)
        gevent.sleep(0)  # lets run what was put off for a moment

    def prove(self) -> None:
        """Serves itself a request as it would a client, and ends if it is not ready; the log says why.
        Runners may be on their way at the same time, or be stopped on purpose.

        A worker's first request takes five times as long as the next: so no client has to wait for it.
        """
        client, server = socket.socketpair()
        with client, client.makefile("rb") as answer:
            client.sendall(FIRST_REQUEST)
            client.shutdown(socket.SHUT_WR)
            self.handle(server.getsockname(), server, server.getpeername())
            status, _, rest = answer.read().decode().removeprefix("HTTP/1.1 ").partition("\r\n")
        if not status.startswith("200"):
            self.log.error("GET /health/ready answers %s: %s", status, rest.partition(HEAD_END)[2])
            sys.exit(Arbiter.WORKER_BOOT_ERROR)

    def beat(self) -> bool:
        self.notify()
        return self.alive

    def _server(self, listener: Any) -> StreamServer:
        listener.setblocking(True)
        server = StreamServer(
            listener, handle=partial(self.handle, listener.getsockname()), spawn=Pool(self.worker_connections)
        )
        if self.cfg.workers > 1:
            server.max_accept = 1
        server.start()
        return server

    def notify(self) -> None:
        BaseWorker.notify(self)
        log_file.caretaker.look()
        if self.alive and self.ppid != os.getppid():
            self.log.warning("the arbiter is gone; this worker ends after the requests in flight")
            self.alive = False

    def handle_exit(self, sig: int, frame: Any) -> None:
        super().handle_exit(sig, frame)
        if self._stop is not None:
            self._stop.set()

    def _drain(self, servers: list[StreamServer]) -> None:
        began = time.monotonic()
        until = began + self.grace_seconds
        silent_since = began - self.last_request_seconds
        for server in servers:
            server.close()
        gevent.sleep(0)  # what was accepted a moment ago joins the connections
        for clients in self._long_ones():
            clients.release()
        while self._connections:
            now = time.monotonic()
            if now > until:
                self.log.warning("%d requests are cut off: they took too long to end", len(self._connections))
                return
            if now > began + self.last_request_seconds:
                silent_since = now
            for connection in self._connections:
                if connection.idle and connection.idle_since < silent_since:
                    connection.wake()
            self.notify()
            gevent.sleep(DRAIN_POLL_SECONDS)

    def _long_ones(self) -> "list[LongClients]":
        return [getattr(self.wsgi, name) for name in ("waiting", "events") if hasattr(self.wsgi, name)]

    def _dismiss(self, count: int) -> None:
        """Closes so many idle connections."""
        while count > 0 and self._answered:
            connection, _ = self._answered.popitem(last=False)
            if connection.idle:
                connection.wake()
                count -= 1

    # --- a connection ----------------------------------------------------------------------------

    def handle(self, server: Any, client: Any, address: Any) -> None:
        if len(self._connections) > self._crowd:
            self._dismiss(1)
        connection = Connection(client, request_seconds=self.request_seconds, idle_seconds=self.cfg.keepalive)
        self._connections.add(connection)
        try:
            self._serve(connection, server, address)
        except (StopIteration, errors.NoMoreData):
            pass  # the client has ended the connection, or the answer does
        except TooSlow as error:
            self.handle_error(None, connection, address, error)
        except OSError as error:
            self.log.debug("a connection broke: %s", error)
        except Exception as error:
            self.handle_error(None, connection, address, error)
        finally:
            connection.close()
            self._connections.discard(connection)
            self._answered.pop(connection, None)

    def _serve(self, connection: Connection, server: Any, address: Any) -> None:
        client = connection.sock
        parser = RequestParser(self.cfg, client, address)
        parser.unreader = connection
        while True:
            request = next(parser)
            self._complete(connection, request)
            client.settimeout(SEND_SECONDS)
            self.handle_request(server, request, client, address)
            connection.rest()
            self._answered[connection] = None
            self._answered.move_to_end(connection)
            gevent.sleep(0)  # a client that always has a next request ready must not keep the others out

    def _complete(self, connection: Connection, request: Any) -> None:
        """Reads the body, unless it is large; then the application reads it, or refuses it."""
        reader = request.body.reader
        length = reader.length if isinstance(reader, LengthReader) else None
        if length == 0:
            return
        is_large = length is not None and length > BODY_LIMIT
        if not is_large:
            if request._expected_100_continue:
                connection.sock.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = request.body.read(BODY_LIMIT + 1) if length is None else reader.read(length)
            if length is not None and len(body) < length:
                raise errors.NoMoreData
            is_large = len(body) > BODY_LIMIT
            request.body = LargeBody(body, request.body) if is_large else io.BytesIO(body)
        if is_large:
            connection.linger = True
            request.force_close()
        request._expected_100_continue = False

    def handle_error(self, req: Any, connection: Connection, address: Any, error: Exception) -> None:
        """Answers a request that the application never gets."""
        began, name = time.perf_counter(), request_id.new()
        refusal = _refusal(error)
        if refusal.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            self.log.exception("a connection failed")
        else:
            self.log.info("refused a request from %s: %s", address and address[0], refusal.detail)
        connection.linger = True
        with suppress(OSError):  # it may not listen any more
            connection.sock.settimeout(LINGER_SECONDS)
            connection.sock.sendall(_response(refusal, name))
        self._tell(refusal, name, address, time.perf_counter() - began)

    def _tell(self, refusal: Problem, name: str, address: Any, seconds: float) -> None:
        """Logs and counts it like every answer; but for method and path, which cannot be trusted."""
        status = str(refusal.status)
        asked = {"REQUEST_METHOD": "", "PATH_INFO": "", "REMOTE_ADDR": str(address[0]) if address else ""}
        answer = GeventResponse(status, {}, len(refusal.body()))
        self.log.access(answer, None, asked | {request_id.KEY: name}, timedelta(seconds=seconds))
        if metrics := getattr(self.wsgi, "metrics", None):
            metrics.request("unknown", "", status, seconds, waited=False, event="", about=())


_STATUSES: Final = {
    errors.LimitRequestLine: HTTPStatus.REQUEST_URI_TOO_LONG,
    errors.LimitRequestHeaders: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    errors.ExpectationFailed: HTTPStatus.EXPECTATION_FAILED,
}


def _refusal(error: Exception) -> Problem:
    if isinstance(error, TooSlow):
        return Problem(HTTPStatus.REQUEST_TIMEOUT, "the request was not complete in time")
    if isinstance(error, errors.ParseException):
        status = _STATUSES.get(type(error), HTTPStatus.BAD_REQUEST)
        return Problem(status, str(error).encode("ascii", "replace").decode()[:200])
    return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "the service has a fault; it is in its log")


def _response(refusal: Problem, name: str) -> bytes:
    body = refusal.body()
    head = (
        f"HTTP/1.1 {refusal.status} {HTTPStatus(refusal.status).phrase}",
        f"Content-Type: {problem.CONTENT_TYPE}",
        f"Content-Length: {len(body)}",
        f"{request_id.HEADER}: {name}",
        "Connection: close",
    )
    return "".join(f"{line}\r\n" for line in head).encode() + b"\r\n" + body
