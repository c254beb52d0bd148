"""What those who operate the service do: look at queues, pause and resume. A base of the client; made as it is."""

from datetime import datetime
from typing import Any

from sandbox_client import calls
from sandbox_client.calls import Call
from sandbox_client.document import Queue, RunnerAtWork, TaskType


class AsyncOperating:
    async def _send(self, call: Call) -> Any:
        raise NotImplementedError

    async def types(self) -> list[TaskType]:
        answer: dict[str, list[TaskType]] = await self._send(calls.types())
        return answer["types"]

    async def queues(self) -> list[Queue]:
        answer: dict[str, list[Queue]] = await self._send(calls.queues())
        return answer["queues"]

    async def runners(self) -> list[RunnerAtWork]:
        answer: dict[str, list[RunnerAtWork]] = await self._send(calls.runners())
        return answer["runners"]

    async def pause_queue(self, name: str, *, reason: str | None = None, until: datetime | str | None = None) -> None:
        """From the return on nothing of it is started; what runs goes on. A second pause replaces the first."""
        await self._send(calls.pause("queues", name, reason, until))

    async def resume_queue(self, name: str) -> None:
        await self._send(calls.resume("queues", name))

    async def pause_type(self, name: str, *, reason: str | None = None, until: datetime | str | None = None) -> None:
        await self._send(calls.pause("types", name, reason, until))

    async def resume_type(self, name: str) -> None:
        await self._send(calls.resume("types", name))
