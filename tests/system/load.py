"""Clients that ask all the time, and count what fails."""

import contextlib
import http.client
import threading
from collections.abc import Iterator

from tests.system.instance import Instance

BODY = b'{"type": "echo"}'
HEADERS = {"Content-Type": "application/json"}


class Load:
    """One client keeps its connection, and opens a new one when it was told to; one opens one each time."""

    def __init__(self, port: int) -> None:
        self.answered = 0
        self.failures: list[str] = []
        self._port = port
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(keep,)) for keep in (True, False)]

    def _ask(self, keep: bool) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=15)
        while not self._over.is_set():
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

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()


@contextlib.contextmanager
def load(instance: Instance) -> Iterator[Load]:
    """In the end none has failed."""
    clients = Load(instance.port)
    clients.start()
    try:
        yield clients
    finally:
        clients.stop()
    assert clients.answered > 0
    assert not clients.failures, clients.failures[:5]
