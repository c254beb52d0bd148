"""A client that reads server-sent events, as a browser does."""

import http.client
import json
import socket
import threading
from contextlib import suppress
from typing import Any, NamedTuple


class Event(NamedTuple):
    kind: str
    data: Any
    id: str


class Reader:
    """Reads in a thread of its own, until the stream ends."""

    def __init__(self, port: int, uid: str, last_seen: str | None = None, **headers: str) -> None:
        self.events: list[Event] = []
        self.comments = 0
        self.retry = 0
        self.is_over = False
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        seen = {"Last-Event-ID": last_seen} if last_seen else {}
        self._connection.request("GET", f"/tasks/{uid}/events", headers={**seen, **headers})
        self._socket = self._connection.sock
        self.answer = self._connection.getresponse()
        self.status = self.answer.status
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def last_seen(self) -> str:
        return self.events[-1].id

    def of(self, kind: str) -> list[Any]:
        return [event.data for event in self.events if event.kind == kind]

    @property
    def lines(self) -> list[str]:
        return [line["text"] for data in self.of("log") for line in data["lines"]]

    @property
    def statuses(self) -> list[str]:
        return [data["status"] for data in self.of("task")]

    def close(self) -> None:
        with suppress(OSError):  # the service may have been quicker
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self.answer.close()
        self._connection.close()

    def _read(self) -> None:
        fields: dict[str, str] = {}
        try:
            while line := self.answer.readline():
                fields = self._take(line.decode().rstrip("\n"), fields)
        except (OSError, ValueError, AttributeError):
            pass  # closed by the test
        self.is_over = True

    def _take(self, line: str, fields: dict[str, str]) -> dict[str, str]:
        if line.startswith(":"):
            self.comments += 1
        elif line:
            name, _, value = line.partition(": ")
            return fields | {name: value}
        elif "data" in fields:
            self.events.append(Event(fields["event"], json.loads(fields["data"]), fields["id"]))
        elif "retry" in fields:
            self.retry = int(fields["retry"])
        return {}
