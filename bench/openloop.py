"""Clients in an open loop: requests start when they are due, however the earlier ones fare.

Every other request opens a connection of its own; the rest share kept ones, the longest idle first, and a
connection that was closed in between is replaced. Nothing is sent twice: a request without its answer has
failed. Time runs from when a request was due, so nothing is hidden by a client that waited. The clients are a
process of their own: who starts programs beside them must not hold them up.
"""

import asyncio
import gc
import json
import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection as Pipe
from typing import Any, Final, NamedTuple

LIMIT_SECONDS: Final = 10.0
START_SECONDS: Final = 30.0


class Asked(NamedTuple):
    """A request: when it was due (monotonic), how long it took, and why it failed, if it did."""

    due: float
    seconds: float
    failure: str


class Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self.usable = True
        self._received = b""
        self._answer: asyncio.Future[int] | None = None
        self._transport: asyncio.Transport | None = None

    async def ask(self, request: bytes) -> int:
        """The status of the answer."""
        self._answer = asyncio.get_running_loop().create_future()
        assert self._transport is not None
        self._transport.write(request)
        return await self._answer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, received: bytes) -> None:
        self._received += received
        head, _, body = self._received.partition(b"\r\n\r\n")
        if not _ or len(body) < _length(head):
            return
        self._received = b""
        self.usable = b"connection: close" not in head.lower()
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(int(head[9:12]))

    def connection_lost(self, error: Exception | None) -> None:
        self.usable = False
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error or ConnectionResetError("closed before the answer"))

    def close(self) -> None:
        self.usable = False
        if self._transport is not None:
            self._transport.close()


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line.partition(b":")[2])
    return 0


class Clients:
    """Create tasks and read them, in turn."""

    def __init__(self, port: int) -> None:
        self.asked: list[Asked] = []
        self._port = port
        self._idle: deque[Connection] = deque()
        self._under_way: set[asyncio.Task[None]] = set()
        self._uid = ""

    async def run(self, rate: float, is_over: Callable[[], bool]) -> None:
        begun, count = time.monotonic(), 0
        while not is_over():
            due = begun + count / rate
            if (early := due - time.monotonic()) > 0:
                await asyncio.sleep(early)
            self._start(due, count)
            count += 1
        await asyncio.gather(*self._under_way)
        self.close()

    async def capacity(self, clients: int, seconds: float) -> float:
        """Answers a second, when each client asks again as soon as it has its answer."""
        until = time.monotonic() + seconds

        async def ask_all() -> None:
            count = 0
            while time.monotonic() < until:
                await self._ask(time.monotonic(), count)
                count += 1

        await asyncio.gather(*[ask_all() for _ in range(clients)])
        answered = sum(not asked.failure for asked in self.asked)
        self.asked.clear()
        self.close()
        return answered / seconds

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    def _start(self, due: float, count: int) -> None:
        task = asyncio.ensure_future(self._ask(due, count))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def _ask(self, due: float, count: int) -> None:
        kept, create = count % 2 == 0, count // 2 % 2 == 0 or not self._uid
        failure = ""
        try:
            async with asyncio.timeout(LIMIT_SECONDS):
                status = await self._answered(self._request(kept, create), kept)
            if status != (201 if create else 200):
                failure = str(status)
        except (OSError, TimeoutError) as error:
            failure = str(error) or type(error).__name__
        self.asked.append(Asked(due, time.monotonic() - due, failure))

    async def _answered(self, request: bytes, kept: bool) -> int:
        connection = self._kept() if kept else None
        if connection is None:
            _, connection = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", self._port)
        try:
            return await connection.ask(request)
        except BaseException:
            connection.usable = False
            raise
        finally:
            if kept and connection.usable:
                self._idle.append(connection)
            else:
                connection.close()

    def _kept(self) -> Connection | None:
        while self._idle:
            if (connection := self._idle.popleft()).usable:
                return connection
        return None

    def _request(self, kept: bool, create: bool) -> bytes:
        keep = "keep-alive" if kept else "close"
        if create:
            body = '{"type": "echo"}'
            head = f"POST /tasks HTTP/1.1\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        else:
            head, body = f"GET /tasks?task_id={self._uid} HTTP/1.1", ""
        return f"{head}\r\nHost: 127.0.0.1\r\nConnection: {keep}\r\n\r\n{body}".encode()

    async def reach(self) -> None:
        """Until somebody listens; creates a task to be read."""
        until = time.monotonic() + START_SECONDS
        while not self._uid:
            try:
                self._uid = await self._create()
            except (OSError, KeyError, ValueError):
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.1)

    async def _create(self) -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(self._request(False, True))
        answer = await reader.read()
        with suppress(OSError):
            writer.close()
            await writer.wait_closed()
        return str(json.loads(answer.partition(b"\r\n\r\n")[2])["uid"])


class Load:
    """The clients' process, told what to do and asked how it went."""

    def __init__(self, pipe: "Pipe[Any, Any]") -> None:
        self._pipe = pipe

    async def ready(self) -> None:
        """Once the first of them has been answered."""
        await self._answer()

    async def capacity(self, clients: int, seconds: float) -> float:
        self._pipe.send((clients, seconds))
        return float(await self._answer())

    def begin(self, rate: float) -> None:
        self._pipe.send(rate)

    async def end(self) -> list[Asked]:
        self._pipe.send(None)
        return list(await self._answer())

    async def _answer(self) -> Any:
        answer = await asyncio.to_thread(self._pipe.recv)
        if isinstance(answer, Exception):
            raise answer
        return answer


@contextmanager
def load(port: int) -> Iterator[Load]:
    """Clients of whoever listens there, or soon will."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_obey, args=(port, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield Load(ours)
    finally:
        process.terminate()
        process.join()


def _obey(port: int, pipe: "Pipe[Any, Any]") -> None:
    gc.disable()  # it would be seen in the figures
    try:
        asyncio.run(_run(Clients(port), pipe))
    except Exception as error:
        pipe.send(error)


async def _run(clients: Clients, pipe: "Pipe[Any, Any]") -> None:
    await clients.reach()
    pipe.send(None)
    while True:
        order = await asyncio.to_thread(pipe.recv)
        if isinstance(order, tuple):
            pipe.send(await clients.capacity(*order))
        else:
            await clients.run(order, is_over=pipe.poll)
            pipe.recv()
            pipe.send(clients.asked)
