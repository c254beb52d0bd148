"""What those who operate the service do: look at queues, pause and resume, set limits. A base of the client; made as it
is.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sandbox_client import calls
from sandbox_client.calls import Call
from sandbox_client.document import Bounds, Limit, Queue, RunnerAtWork, StuckType, TaskType
from sandbox_client.errors import NotFound
from sandbox_client.retrying import Retries


class AsyncOperating:
    async def _send(self, call: Call, retries: Retries | None = None) -> Any:
        raise NotImplementedError

    def _retries(self) -> Retries:
        raise NotImplementedError

    async def _remove(self, call: Call) -> None:
        """Raises NotFound if there is nothing, unless a try before, whose answer was lost, may have removed it."""
        retries = self._retries()
        try:
            await self._send(call, retries)
        except NotFound:
            if not retries.perhaps_done:
                raise

    async def types(self) -> list[TaskType]:
        answer: dict[str, list[TaskType]] = await self._send(calls.types())
        return answer["types"]

    async def stuck_types(self) -> list[StuckType]:
        """Types that no runner knows, and whose tasks wait."""
        answer: dict[str, list[StuckType]] = await self._send(calls.types())
        return answer["stuck"]

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

    async def limits(self) -> list[Limit]:
        """Those that are set, those that types name, and those at which tasks still wait."""
        answer: dict[str, list[Limit]] = await self._send(calls.limits())
        return answer["limits"]

    async def limit(self, name: str) -> Limit:
        found: Limit = await self._send(calls.limit(name))
        return found

    async def set_limit(
        self,
        name: str,
        *,
        key: str | None = None,
        concurrency: int | None = None,
        rate: str | None = None,
        burst: int | None = None,
        overrides: Mapping[str, Bounds] | None = None,
    ) -> Limit:
        """In place of what it said before: what is not given is as if it had never been. `overrides`: bounds of single
        keys, by the key's value."""
        rule = {"key": key, "concurrency": concurrency, "rate": rate, "burst": burst, "overrides": overrides}
        stored: Limit = await self._send(calls.set_limit(name, rule))
        return stored

    async def remove_limit(self, name: str) -> None:
        """Who waits at it runs. Raises NotFound if it is not set."""
        await self._remove(calls.remove_limit(name))

    async def history_series(self) -> dict[str, list[str]]:
        """The names of what is counted (`counts`) and of what is measured (`gauges`)."""
        found: dict[str, list[str]] = await self._send(calls.history({}))
        return found

    async def history(
        self, series: str, *, since: datetime | str | None = None, until: datetime | str | None = None
    ) -> dict[str, Any]:
        """What became of tasks, by minute or hour; of the last three hours, unless told otherwise."""
        found: dict[str, Any] = await self._send(calls.history({"series": series, "from": since, "to": until}))
        return found
