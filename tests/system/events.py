"""What circusd publishes while somebody listens."""

import json
from types import TracebackType
from typing import Any

import zmq

from tests.servers import eventually
from tests.system.instance import Instance


class Events:
    def __init__(self, instance: Instance) -> None:
        self._instance = instance
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.SUBSCRIBE, b"watcher.")
        self._socket.connect(f"ipc://{instance.home}/run/events.sock")
        self._seen: list[tuple[str, dict[str, Any]]] = []

    def __enter__(self) -> "Events":
        """What is published before the subscription has reached circusd is lost: a signal that it ignores tells."""
        eventually(self._hears, 10, 0.05)
        return self

    def _hears(self) -> bool:
        self._instance.circusctl("set", "redis", "warmup_delay", "0")
        return bool(self._read())

    def _read(self) -> list[tuple[str, dict[str, Any]]]:
        while self._socket.poll(50):
            topic, message = self._socket.recv_multipart()
            self._seen.append((topic.decode(), json.loads(message)))
        return self._seen

    def of(self, topic: str) -> list[dict[str, Any]]:
        return [message for seen, message in self._read() if seen == topic]

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._context.destroy(linger=0)
