"""Clients that ask all the time, and count what fails.

As a rule they take a breath between two requests: the processors are for what is tested. Where the hand-over of a
socket is the point, they take none.
"""

import contextlib
import http.client
import threading
from collections.abc import Iterator

from service.supervise.start.announce import UnixConnection
from tests.system.instance import Instance

BODY = b'{"type": "echo"}'
HEADERS = {"Content-Type": "application/json"}
PATIENCE_SECONDS = 60  # on a machine that is busy with other work, a start may take a while


class Load:
    """One client keeps its connection, and opens a new one when it was told to; one opens one each time."""

    def __init__(self, port: int, path: str = "", pause: float = 0.0) -> None:
        self.answered = 0
        self.failures: list[str] = []
        self._port = port
        self._path = path
        self._pause = pause
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(keep,)) for keep in (True, False)]

    def _ask(self, keep: bool) -> None:
        connection = self._connection()
        while not self._over.wait(self._pause):
            try:
                connection.request("POST", "/tasks", BODY, HEADERS | ({} if keep else {"Connection": "close"}))
                answer = connection.getresponse()
                answer.read()
                if answer.status != 201:
                    self.failures.append(str(answer.status))
                self.answered += 1
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
        connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        if self._path:
            return UnixConnection(self._path, timeout=PATIENCE_SECONDS)
        return http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE_SECONDS)

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


@contextlib.contextmanager
def load(instance: Instance, pause: float = 0.01) -> Iterator[Load]:
    """In the end none has failed."""
    clients = Load(instance.port, instance.environment.get("SANDBOX_BIND", "").removeprefix("unix:"), pause)
    clients.start()
    try:
        yield clients
    finally:
        clients.stop()
    assert clients.answered > 0
    assert not clients.failures, clients.failures[:5]
