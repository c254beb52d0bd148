"""The client, and a task with its calls. `client.py` is made from this file by `make client`: change it here."""

import math
import os
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, Self, Unpack

import httpx2

from sandbox_client import address, answers, calls
from sandbox_client.async_operating import AsyncOperating
from sandbox_client.calls import Call, Filters, NewTask, Unique
from sandbox_client.clock import Clock
from sandbox_client.document import Attempt, Document, LogLine, Matched, Readiness, Schedule, attempt, log_line
from sandbox_client.errors import Conflict, Invalid, SandboxError, TimedOut, Unavailable
from sandbox_client.events import END, SILENCE_SECONDS, Event, EventParser
from sandbox_client.retrying import Retries
from sandbox_client.version import __version__
from sandbox_client.waiting import Rounds
from sandbox_client.workspace import Action, Record


class AsyncClient(AsyncOperating):
    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        retry_for: float = 30.0,
        timeout: float = 10.0,
        transport: httpx2.AsyncBaseTransport | None = None,
        clock: Clock | None = None,
    ) -> None:
        """`retry_for`: for how many seconds a call is tried again. `timeout`: seconds that each try may take to
        connect, and then to answer. `transport` and `clock` are for tests."""
        self._address = place = address.find(url, token, os.environ)
        self._place = f"unix:{place.socket}" if place.socket else place.base_url
        self._retry_for = retry_for
        self._timeout = timeout
        self._clock = clock or Clock()
        self._transport = transport
        self._connect()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._here().aclose()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._place}>"

    # --- the calls --------------------------------------------------------------------------------

    async def create(
        self,
        type: str,
        args: Mapping[str, Any] | None = None,
        /,
        *,
        queue: str | None = None,
        delay: float | timedelta | None = None,
        run_at: datetime | str | None = None,
        max_attempts: int | None = None,
        timeout: float | timedelta | None = None,
        priority: str | None = None,
        unique: Unique | None = None,
        idempotency_key: str | None = None,
        **arguments: Any,
    ) -> "AsyncTask":
        """The task's arguments are keywords; what is named like an option goes into `args`."""
        if both := arguments.keys() & (args or {}).keys():
            raise TypeError(f"given both in args and as a keyword: {', '.join(sorted(both))}")
        task: NewTask = {
            "type": type, "args": {**(args or {}), **arguments}, "queue": queue, "delay": delay, "run_at": run_at,
            "max_attempts": max_attempts, "timeout": timeout, "priority": priority, "unique": unique,
        }  # fmt: skip
        return AsyncTask(self, await self._send(calls.create(task, idempotency_key)))

    async def create_many(self, tasks: Iterable[NewTask], *, idempotency_key: str | None = None) -> list["AsyncTask"]:
        """In batches of up to 1,000. A run that broke off goes on where it was, if it is called again with the same
        tasks and the same key; an exception's note names the key."""
        key = calls.given_or_new(idempotency_key)
        made: list[AsyncTask] = []
        for batch in calls.batches(tasks, key):
            try:
                answer = await self._send(batch.call)
            except SandboxError as error:
                if isinstance(error, Invalid):
                    error.first = batch.first
                error.add_note(f"{len(made)} tasks were created before. To go on: idempotency_key={key!r}")
                raise
            made += [AsyncTask(self, document) for document in answer["tasks"]]
        return made

    async def get(self, uid: str) -> "AsyncTask":
        return AsyncTask(self, await self._read(uid))

    async def tasks(self, **filters: Unpack[Filters]) -> AsyncIterator["AsyncTask"]:
        """The newest first. Each page is fetched when it is reached."""
        cursor = None
        while True:
            page = await self._send(calls.page(filters, cursor))
            for document in page["tasks"]:
                yield AsyncTask(self, document)
            cursor = page["next"]
            if cursor is None:
                return

    async def retry_many(self, **filters: Unpack[Filters]) -> "AsyncTask":
        """All that have failed or were cancelled and that the filters admit. Returns the task that does it."""
        return AsyncTask(self, await self._send(calls.act_on_many("retry", filters)))

    async def cancel_many(self, **filters: Unpack[Filters]) -> "AsyncTask":
        """All that have not finished and that the filters admit. Returns the task that does it."""
        return AsyncTask(self, await self._send(calls.act_on_many("cancel", filters)))

    async def count_for_retry(self, **filters: Unpack[Filters]) -> Matched:
        """How many tasks retry_many would look at now. Changes nothing."""
        answer = await self._send(calls.count_for("retry", filters))
        return Matched(answer["matched"], answer["more"])

    async def count_for_cancel(self, **filters: Unpack[Filters]) -> Matched:
        answer = await self._send(calls.count_for("cancel", filters))
        return Matched(answer["matched"], answer["more"])

    async def schedules(self) -> list[Schedule]:
        answer: dict[str, list[Schedule]] = await self._send(calls.schedules())
        return answer["schedules"]

    async def schedule(self, name: str) -> Schedule:
        found: Schedule = await self._send(calls.schedule(name))
        return found

    async def put_schedule(
        self,
        name: str,
        type: str,
        args: Mapping[str, Any] | None = None,
        *,
        cron: str | None = None,
        every: float | timedelta | None = None,
        timezone: str | None = None,
        queue: str | None = None,
        overlap: str | None = None,
        catch_up: float | timedelta | None = None,
        jitter: float | timedelta | None = None,
        paused: bool = False,
    ) -> Schedule:
        """Makes it, or changes it: what is not given is as if it had never been."""
        wanted = {
            "type": type, "args": args or {}, "cron": cron, "every": every, "timezone": timezone, "queue": queue,
            "overlap": overlap, "catch_up": catch_up, "jitter": jitter, "paused": paused,
        }  # fmt: skip
        stored: Schedule = await self._send(calls.put_schedule(name, wanted))
        return stored

    async def delete_schedule(self, name: str) -> None:
        """Raises NotFound if there is none."""
        await self._remove(calls.delete_schedule(name))

    async def run_schedule(self, name: str, *, idempotency_key: str | None = None) -> "AsyncTask":
        """Creates a task of it for now, beside its times."""
        return AsyncTask(self, await self._send(calls.run_schedule(name, idempotency_key)))

    async def pause_schedule(self, name: str) -> Schedule:
        paused: Schedule = await self._send(calls.pause_schedule(name))
        return paused

    async def resume_schedule(self, name: str) -> Schedule:
        resumed: Schedule = await self._send(calls.resume_schedule(name))
        return resumed

    async def ready(self) -> Readiness:
        """Asks once, and does not try again."""
        try:
            answer = await self._send(calls.ready(), Retries(0, self._clock))
        except Unavailable as error:
            return Readiness(False, error.problem.get("failing") or {"service": error.detail})
        return Readiness(True, answer.get("failing", {}))

    async def create_workspace(self, email: str, *, take_over: bool = False) -> "AsyncWorkspace":
        """The one of this email, also if it was there already. `take_over`: also a branch of somebody else."""
        answer = await self._send(calls.create_workspace(email, take_over))
        return AsyncWorkspace(self, answer["workspace"])

    async def workspace(self, slug: str) -> "AsyncWorkspace":
        return AsyncWorkspace(self, await self._send(calls.workspace(slug)))

    async def workspaces(self) -> list["AsyncWorkspace"]:
        """The newest first."""
        answer = await self._send(calls.workspaces())
        return [AsyncWorkspace(self, record) for record in answer["workspaces"]]

    async def releases(self) -> dict[str, Any]:
        """What the first stage has proved, and what somebody has asked to have on the second."""
        found: dict[str, Any] = await self._send(calls.releases())
        return found

    async def promote(self, release: str) -> "AsyncTask":
        """Brings a release that was proved to the second stage. Raises Conflict while another one is on its way."""
        return AsyncTask(self, (await self._send(calls.promote(release)))["task"])

    # --- how they are sent ------------------------------------------------------------------------

    def _connect(self) -> None:
        place, limits = self._address, httpx2.Limits(max_connections=None, max_keepalive_connections=20)
        # httpx2's own transport would obey HTTP_PROXY: the token is for the service alone.
        transport = self._transport or httpx2.AsyncHTTPTransport(uds=place.socket, limits=limits)
        headers = {"User-Agent": f"sandbox-client/{__version__}", **place.headers}
        self._http = httpx2.AsyncClient(base_url=place.base_url, headers=headers, limits=limits, transport=transport)
        self._process = os.getpid()

    def _here(self) -> httpx2.AsyncClient:
        """A forked process gets connections of its own: on those of both, each would read the other's answers."""
        if self._process != os.getpid():
            self._connect()
        return self._http

    def _retries(self, *, end: float = math.inf) -> Retries:
        return Retries(self._retry_for, self._clock, end=end)

    async def _send(self, call: Call, retries: Retries | None = None) -> Any:
        retries = retries or self._retries()
        while True:
            try:
                return answers.content(call, await self._request(call))
            except SandboxError as fault:
                pause = retries.pause_after(call, fault)
            await self._clock.sleep_async(pause)

    async def _request(self, call: Call) -> httpx2.Response:
        wait_seconds = call.wait() if call.wait else 0
        try:
            return await self._here().request(
                call.method,
                call.path,
                params=call.query,
                headers=call.headers_for(wait_seconds),
                content=call.content,
                timeout=httpx2.Timeout(self._timeout, read=self._timeout + wait_seconds),
            )
        except httpx2.RequestError as error:
            raise answers.unreachable(call, self._place, error) from error

    async def _stream(self, uid: str) -> AsyncIterator[Event]:
        """Up to the task's end. A stream that ends before it is gone on with, from where it was."""
        parser, retries = EventParser(), self._retries()
        while True:
            call = calls.events(uid, parser.last_seen)
            pause = parser.pause_seconds
            try:
                async for events in self._stream_once(call, parser):
                    retries = self._retries()
                    for event in events:
                        yield event
                        if event.kind == END:
                            return
            except SandboxError as fault:
                pause = retries.pause_after(call, fault)
            await self._clock.sleep_async(pause)

    async def _stream_once(self, call: Call, parser: EventParser) -> AsyncIterator[list[Event]]:
        parser.begin()
        timeout = httpx2.Timeout(self._timeout, read=max(self._timeout, SILENCE_SECONDS))
        try:
            async with self._here().stream(
                call.method, call.path, headers=call.headers_for(0), timeout=timeout
            ) as response:
                if not answers.is_stream(response):
                    await response.aread()
                    answers.refuse(call, response)
                async for chunk in response.aiter_bytes():
                    yield parser.feed(chunk)
        except httpx2.RequestError as error:
            raise answers.unreachable(call, self._place, error) from error

    # --- for a task -------------------------------------------------------------------------------

    async def _read(self, uid: str) -> Any:
        return await self._send(calls.read(uid))

    async def _read_later(self, uid: str, rounds: Rounds) -> Any:
        return await self._send(calls.read(uid, rounds.begin), self._retries(end=rounds.end))

    async def _cancel(self, uid: str) -> Any:
        retries = self._retries()
        try:
            return await self._send(calls.cancel(uid), retries)
        except Conflict:
            if not retries.perhaps_done:
                raise
            found = await self._read(uid)  # a try whose answer was lost may have cancelled it
            if found["status"] != "cancelled":
                raise
            return found

    async def _retry(self, uid: str) -> Any:
        return await self._send(calls.retry(uid))


class AsyncTask(Document):
    """A task as it was when it was last read. Each method reads it anew, and returns it."""

    def __init__(self, client: AsyncClient, document: dict[str, Any]) -> None:
        super().__init__(document)
        self._client = client

    async def refresh(self) -> Self:
        self.document = await self._client._read(self.uid)
        return self

    async def wait(self, timeout: float | None = None) -> Self:
        """Until it has finished, well or not, or cannot be read: look at `status`. Raises TimedOut after so many
        seconds, rounded up."""
        rounds = Rounds(timeout, self._client._clock)
        while not self.ended:
            self.document = await self._client._read_later(self.uid, rounds)
            if not self.ended:
                if rounds.seconds_left == 0:
                    raise TimedOut(f"task {self.uid} is still {self.status} after {timeout} s")
                await self._client._clock.sleep_async(rounds.pause())
        return self

    async def events(self) -> AsyncIterator[Event]:
        """What happens to the task from now on, up to its end: first the document as it is, and all lines of its log.
        Each new document is this object's, too.
        """
        async for event in self._client._stream(self.uid):
            if event.kind == "task":
                self.document = event.data
            yield event

    async def log(self, *, follow: bool = False) -> AsyncIterator[LogLine]:
        """The lines of its log. With `follow` also those that come, up to the task's end."""
        if follow:
            async for event in self.events():
                if event.kind == "log":
                    for line in event.data["lines"]:
                        yield log_line(line)
            return
        after = "0"
        while True:
            page = await self._client._send(calls.log(self.uid, after))
            if not page["lines"]:
                return
            for line in page["lines"]:
                yield log_line(line)
            after = page["next"]

    async def attempts(self) -> list[Attempt]:
        """From the oldest to the present or last one."""
        answer = await self._client._send(calls.attempts(self.uid))
        return [attempt(given) for given in answer["attempts"]]

    async def cancel(self) -> Self:
        """Raises Conflict if it has finished."""
        self.document = await self._client._cancel(self.uid)
        return self

    async def retry(self) -> Self:
        """Runs it again. Raises Conflict unless it has failed or was cancelled."""
        self.document = await self._client._retry(self.uid)
        return self

    async def purge(self) -> None:
        """Removes a finished task, or one whose document cannot be read, before its time. Raises Conflict unless it is
        one."""
        await self._client._remove(calls.purge(self.uid))


class AsyncWorkspace(Record):
    """A workspace as it was when it was last read. What is done to it is a task, which says how it ends."""

    def __init__(self, client: AsyncClient, record: dict[str, Any]) -> None:
        super().__init__(record)
        self._client = client

    async def refresh(self) -> Self:
        self.record = await self._client._send(calls.workspace(self.slug))
        return self

    async def task(self) -> AsyncTask | None:
        """The action that is at work or comes next; if there is none, the last one, as long as it is kept."""
        uid = (await self.refresh()).record["task"]
        return await self._client.get(uid) if uid else None

    async def act(self, action: Action, **given: Any) -> AsyncTask:
        """`rebuild` may be given a `python`, `access` is given a `login`, `resume` may be told to `take_over`. Raises
        Conflict while another action is at work."""
        return await self._begun(calls.act_on_workspace(self.slug, action, given))

    async def delete(self, *, force: bool = False, keep_branch: bool = False) -> AsyncTask:
        """It refuses to lose work, unless forced."""
        return await self._begun(calls.delete_workspace(self.slug, force, keep_branch))

    async def extend(self) -> Self:
        """Says that it is in use: it falls asleep later."""
        answer = await self._client._send(calls.act_on_workspace(self.slug, "extend", {}))
        self.record = answer["workspace"]
        return self

    async def link(self) -> str:
        """Where who follows it sees this one workspace, and needs no token: a path on the service."""
        answer = await self._client._send(calls.link_workspace(self.slug))
        return str(answer["link"])

    async def _begun(self, call: Call) -> AsyncTask:
        answer = await self._client._send(call)
        self.record = answer["workspace"]
        return AsyncTask(self._client, answer["task"])
