"""Made from `async_operating.py` by `make client`. Do not change it here."""

from datetime import datetime
from typing import Any

from sandbox_client import calls
from sandbox_client.calls import Call
from sandbox_client.document import Queue, RunnerAtWork, TaskType


class Operating:
    def _send(self, call: Call) -> Any:
        raise NotImplementedError

    def types(self) -> list[TaskType]:
        answer: dict[str, list[TaskType]] = self._send(calls.types())
        return answer["types"]

    def queues(self) -> list[Queue]:
        answer: dict[str, list[Queue]] = self._send(calls.queues())
        return answer["queues"]

    def runners(self) -> list[RunnerAtWork]:
        answer: dict[str, list[RunnerAtWork]] = self._send(calls.runners())
        return answer["runners"]

    def pause_queue(self, name: str, *, reason: str | None = None, until: datetime | str | None = None) -> None:
        """From the return on nothing of it is started; what runs goes on. A second pause replaces the first."""
        self._send(calls.pause("queues", name, reason, until))

    def resume_queue(self, name: str) -> None:
        self._send(calls.resume("queues", name))

    def pause_type(self, name: str, *, reason: str | None = None, until: datetime | str | None = None) -> None:
        self._send(calls.pause("types", name, reason, until))

    def resume_type(self, name: str) -> None:
        self._send(calls.resume("types", name))
