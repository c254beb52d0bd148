"""A sandbox in memory, for tests: the real clients speak to it, and nothing leaves the process.

    fake = FakeSandbox({"report.build": lambda month: f"/reports/{month}.pdf"})
    with fake.client() as sandbox:
        assert sandbox.create("report.build", month="May").wait().result == "/reports/May.pdf"

A task runs when somebody waits for it, or at `fake.run()`. Time is the fake's own: pauses and waits take none. Where a
function raises, its task fails at once. Limits are kept, and hold up nothing. Not played: attempts, time-outs, tokens,
pauses, acts on many, the history, and the times of schedules.
"""

import copy
import inspect
import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx2

from sandbox_client.admitting import admits
from sandbox_client.async_client import AsyncClient
from sandbox_client.client import Client
from sandbox_client.clock import Clock
from sandbox_client.document import FINISHED, STATUSES, Document
from sandbox_client.fake_limits import FakeLimits
from sandbox_client.fake_schedules import FakeSchedules

__all__ = ["FakeSandbox"]

Json = dict[str, Any]
Function = Callable[..., Any]

HEARTBEAT_SECONDS: Final = 15.0
URL: Final = "http://fake-sandbox"
FIELDS: Final = {"type", "args", "queue", "delay", "run_at", "max_attempts", "timeout", "priority", "unique"}


class FakeClock(Clock):
    def __init__(self) -> None:
        self._passed = 0.0

    def monotonic(self) -> float:
        return self._passed

    def sleep(self, seconds: float) -> None:
        self._passed += max(0.0, seconds)

    async def sleep_async(self, seconds: float) -> None:
        self.sleep(seconds)
        await super().sleep_async(0)


class _Refused(Exception):
    def __init__(self, status: int, detail: str, **members: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.body = {"type": "about:blank", "title": "Refused", "status": status, "detail": detail, **members}


class FakeSandbox:
    def __init__(self, types: Mapping[str, Function | None], *, queues: Sequence[str] = ("default",)) -> None:
        """Each type with the function that does its work. Tasks of a type with None stay queued."""
        self._types = types
        self._queues = queues
        self._documents: dict[str, Json] = {}  # by UID, the oldest first
        self._keys: dict[str, tuple[Any, list[str]]] = {}  # the request and the UIDs that each key stands for
        self._faults: list[httpx2.Response] = []
        self._clock = FakeClock()
        self._began = datetime.fromtimestamp(time.time(), UTC)
        self._schedules = FakeSchedules(queues[0], lambda: _stamp(self._now), _Refused)
        self._limits = FakeLimits(_Refused)
        self._transport = httpx2.MockTransport(self._answer)

    def client(self, *, retry_for: float = 30.0) -> Client:
        return Client(URL, retry_for=retry_for, transport=self._transport, clock=self._clock)

    def async_client(self, *, retry_for: float = 30.0) -> AsyncClient:
        return AsyncClient(URL, retry_for=retry_for, transport=self._transport, clock=self._clock)

    @property
    def tasks(self) -> list[Document]:
        """All tasks as they are now, the oldest first."""
        return [Document(copy.deepcopy(document)) for document in self._documents.values()]

    def run(self) -> None:
        """All that is due. A task with a delay is due when the fake's time has come: `pass_time` moves it."""
        for document in [*self._documents.values()]:
            if document["status"] == "queued" or (document["status"] == "scheduled" and self._is_due(document)):
                self._execute(document)

    def pass_time(self, seconds: float) -> None:
        self._clock.sleep(seconds)

    def fail_next(self, times: int = 1, *, status: int = 503, retry_after: float = 1) -> None:
        """The next requests are answered so."""
        body = {"type": "about:blank", "title": "Refused", "status": status, "detail": "the test wants it so"}
        headers = {"Retry-After": f"{retry_after:.0f}"}
        self._faults += [httpx2.Response(status, json=body, headers=headers) for _ in range(times)]

    # --- HTTP -------------------------------------------------------------------------------------

    def _answer(self, request: httpx2.Request) -> httpx2.Response:
        if self._faults:
            return self._faults.pop(0)
        try:
            if request.url.path.endswith("/events"):
                return self._events(request)
            status, body = self._call(request)
        except _Refused as refused:
            status, body = refused.status, refused.body
        return httpx2.Response(status, json=body, headers={"X-Request-ID": request.headers["X-Request-ID"]})

    def _call(self, request: httpx2.Request) -> tuple[int, Json]:
        match request.method, request.url.path.strip("/").split("/"):
            case "POST", ["tasks"]:
                status, [document] = self._create(request, [json.loads(request.content)])
                return status, document
            case "POST", ["tasks", "batch"]:
                status, documents = self._create(request, json.loads(request.content))
                return status, {"tasks": documents}
            case "GET", ["tasks"]:
                return 200, self._page(request.url.params)
            case "GET", ["tasks", uid]:
                return 200, self._read(uid, request)
            case "GET", ["tasks", uid, "log"]:
                self._find(uid)
                return 200, {"lines": [], "next": request.url.params["after"], "dropped": 0}
            case "GET", ["tasks", uid, "attempts"]:
                return 200, {"attempts": [*self._attempts(self._find(uid))]}
            case "DELETE", ["tasks", uid]:
                return 200, self._purge(uid) if "purge" in request.url.params else self._cancel(uid)
            case "POST", ["tasks", uid, "retry"]:
                return 200, self._retry(uid)
            case "GET", ["schedules"]:
                return 200, {"schedules": self._schedules.all()}
            case "GET", ["schedules", name]:
                return 200, self._schedules.find(name)
            case "PUT", ["schedules", name]:
                wanted = json.loads(request.content)
                self._check({field: wanted[field] for field in ("type", "args", "queue") if field in wanted}, {})
                return self._schedules.put(name, wanted)
            case "DELETE", ["schedules", name]:
                return 200, self._schedules.delete(name)
            case "POST", ["schedules", name, "run"]:
                found = self._schedules.find(name)
                task = {field: found[field] for field in ("type", "args", "queue")}
                status, [document] = self._create(request, [task])
                document["schedule"] = name
                return status, document
            case "POST", ["schedules", name, "pause" | "resume" as deed]:
                return 200, self._schedules.pause(name, deed == "pause")
            case "GET", ["limits"]:
                return 200, {"limits": self._limits.all()}
            case "GET", ["limits", name]:
                return 200, self._limits.find(name)
            case "PUT", ["limits", name]:
                return self._limits.put(name, json.loads(request.content))
            case "DELETE", ["limits", name]:
                return 200, self._limits.remove(name)
            case "GET", ["types"]:
                return 200, {"types": [*self._described()], "stuck": []}
            case "GET", ["health", "ready"]:
                return 200, {"status": "ready"}
        raise _Refused(404, "there is nothing at this path")

    def _events(self, request: httpx2.Request) -> httpx2.Response:
        """Whoever reads them waits: what is due runs first."""
        document = self._find(request.url.path.split("/")[2])
        self._wait(document, HEARTBEAT_SECONDS)
        told = [("task", document)]
        if document["status"] in FINISHED:
            told.append(("end", {"status": document["status"]}))
        text = "".join(f"event: {kind}\ndata: {json.dumps(data)}\n\n" for kind, data in told)
        return httpx2.Response(200, text=text, headers={"Content-Type": "text/event-stream"})

    def _attempts(self, document: Json) -> Iterator[Json]:
        if document["attempt"]:
            names = ("attempt", "started_at", "finished_at", "duration", "error")
            yield {name: document[name] for name in names} | {"runner": "fake", "outcome": document["status"]}

    # --- creating ---------------------------------------------------------------------------------

    def _create(self, request: httpx2.Request, given: list[Json]) -> tuple[int, list[Json]]:
        key = request.headers["Idempotency-Key"]
        asked, uids = self._keys.get(key, (given, []))
        if asked != given:
            raise _Refused(422, "Idempotency-Key: it was used for another request", field="Idempotency-Key")
        if uids and {*uids} <= self._documents.keys():
            return 200, [self._documents[uid] for uid in uids]
        where: list[Json] = [{}] if request.url.path != "/tasks/batch" else [{"index": n} for n in range(len(given))]
        made = [self._made(new, request, place) for new, place in zip(given, where, strict=True)]
        held = [self._holder(document) for document in made]
        for document, holder, place in zip(made, held, where, strict=True):
            if holder and document["unique"]["on_conflict"] == "reject":
                told = f"the task {holder['uid']} has the same unique key, and is {holder['status']}"
                raise _Refused(409, told, holder=holder["uid"], **place)
        found = [self._stored(document, holder) for document, holder in zip(made, held, strict=True)]
        self._keys[key] = given, [document["uid"] for document in found]
        return 200 if [*map(id, found)] == [*map(id, held)] else 201, found

    def _holder(self, document: Json) -> Json | None:
        """The unfinished task that has its unique key. None has started: here, each runs to its end at once."""
        for other in self._documents.values() if document["unique"] else ():
            same = other["unique"] and other["unique"]["key"] == document["unique"]["key"]
            if same and other["type"] == document["type"] and other["status"] not in FINISHED:
                return other
        return None

    def _stored(self, document: Json, holder: Json | None) -> Json:
        """The document; or that of the holder, where the key's rule says so."""
        if holder and document["unique"]["on_conflict"] == "return":
            return holder
        if holder:
            told = f"the task {document['uid']} has taken its place: it has the same unique key"
            self._cancel(holder["uid"])["error"] = {"type": "Replaced", "message": told, "event_id": None}
        self._documents[document["uid"]] = document
        return document

    def _unique(self, new: Json) -> Json | None:
        if "unique" not in new:
            return None
        key = new["unique"]["key"]
        if not isinstance(key, str):
            function, args = self._types[new["type"]], new.get("args", {})
            known = inspect.signature(function).parameters if function else {}
            values = {name: args.get(name, known[name].default if name in known else None) for name in key["args"]}
            key = json.dumps(values, sort_keys=True, separators=(",", ":"), default=str)
        return {"until": "finished", "on_conflict": "return", **new["unique"], "key": key}

    def _made(self, new: Json, request: httpx2.Request, place: Json) -> Json:
        self._check(new, place)
        self._clock.sleep(0.000001)  # no two tasks are of the same moment: the list is in order
        due = self._due(new)
        return {
            "uid": secrets.token_hex(32),
            "type": new["type"],
            "queue": new.get("queue", self._queues[0]),
            "status": "scheduled" if due else "queued",
            "args": new.get("args", {}),
            "created_at": _stamp(self._now),
            "started_at": None,
            "finished_at": None,
            "duration": None,
            "attempt": 0,
            "max_attempts": new.get("max_attempts", 3),
            "failures": 0,
            "crashes": 0,
            "timeout": new.get("timeout"),
            "run_at": _stamp(due) if due else None,
            "progress": None,
            "result": None,
            "error": None,
            "request_id": request.headers["X-Request-ID"],
            "created_by": None,
            "priority": new.get("priority", "normal"),
            "schedule": None,
            "scheduled_for": None,
            "unique": self._unique(new),
            "parent": None,
            "blocked_by": None,
        }

    def _check(self, new: Json, place: Json) -> None:
        def wrong(field: str, reason: str) -> _Refused:
            return _Refused(422, f"{field}: {reason}", field=field, **place)

        for field in new.keys() - FIELDS:
            raise wrong(field, "there is no such field")
        if new["type"] not in self._types:
            raise wrong("type", f"there is no {new['type']!r}; these are: {', '.join(self._types)}")
        if new.get("queue", self._queues[0]) not in self._queues:
            raise wrong("queue", f"{new['queue']!r} is not served; these are: {', '.join(self._queues)}")
        if "delay" in new and "run_at" in new:
            raise wrong("delay", "give run_at or delay, not both")
        function = self._types[new["type"]]
        if function is not None:
            try:
                inspect.signature(function).bind(**new.get("args", {}))
            except TypeError as error:
                raise wrong("args", str(error)) from error

    def _due(self, new: Json) -> datetime | None:
        if new.get("delay"):
            return self._now + timedelta(seconds=new["delay"])
        due = datetime.fromisoformat(new["run_at"]) if "run_at" in new else self._now
        return due if due > self._now else None

    # --- reading and changing ---------------------------------------------------------------------

    def _find(self, uid: str) -> Json:
        if uid not in self._documents:
            raise _Refused(404, f"there is no task {uid}")
        return self._documents[uid]

    def _read(self, uid: str, request: httpx2.Request) -> Json:
        document = self._find(uid)
        prefer = request.headers.get("Prefer", "")
        if prefer.startswith("wait="):
            self._wait(document, float(prefer.removeprefix("wait=")))
        return document

    def _wait(self, document: Json, seconds: float) -> None:
        """What else is due runs, too; then this task, if it becomes due in that time."""
        self.run()
        if document["status"] in FINISHED:
            return
        if document["status"] == "scheduled":
            due = (datetime.fromisoformat(document["run_at"]) - self._now).total_seconds()
            if due <= seconds and self._types[document["type"]] is not None:
                self._clock.sleep(due)
                self._execute(document)
                return
        self._clock.sleep(seconds)

    def _page(self, query: httpx2.QueryParams) -> Json:
        if not {*query.get("status", STATUSES[0]).split(",")} <= {*STATUSES}:
            raise _Refused(422, f"status: one or more of {', '.join(STATUSES)}", field="status")
        end = int(query.get("cursor", len(self._documents)))
        found = [
            (place, document)
            for place, document in reversed([*enumerate(self._documents.values())][:end])
            if admits(query, document)
        ]
        page = found[: int(query["limit"])]
        return {"tasks": [document for _, document in page], "next": str(page[-1][0]) if page != found else None}

    def _cancel(self, uid: str) -> Json:
        document = self._find(uid)
        if document["status"] in FINISHED:
            raise _Refused(409, f"the task is {document['status']}: it can no longer be cancelled")
        document |= {"status": "cancelled", "finished_at": _stamp(self._now), "run_at": None}
        return document

    def _purge(self, uid: str) -> Json:
        document = self._find(uid)
        if document["status"] not in FINISHED:
            raise _Refused(409, f"the task is {document['status']}: only what has finished can be purged")
        return self._documents.pop(uid)

    def _retry(self, uid: str) -> Json:
        document = self._find(uid)
        if document["status"] not in ("failed", "cancelled"):
            raise _Refused(409, f"the task is {document['status']}: only a failed or cancelled one can be retried")
        if holder := self._holder(document):
            raise _Refused(409, f"the task {holder['uid']} has the same unique key", holder=holder["uid"])
        document |= {"status": "queued", "finished_at": None, "error": None, "failures": 0, "attempt": 0}
        return document

    def _described(self) -> Iterator[Json]:
        for name, function in self._types.items():
            description = (function and inspect.getdoc(function)) or ""
            limits = {"queue": self._queues[0], "max_attempts": 3, "timeout": None, "priority": "normal"}
            hidden: dict[str, Any] = {"secret": [], "unique": None, "limits": [], "process": False, "paused": None}
            yield {"type": name, "description": description, **limits, "args": {"type": "object"}, **hidden}

    # --- running ----------------------------------------------------------------------------------

    @property
    def _now(self) -> datetime:
        return self._began + timedelta(seconds=self._clock.monotonic())

    def _is_due(self, document: Json) -> bool:
        return datetime.fromisoformat(document["run_at"]) <= self._now

    def _execute(self, document: Json) -> None:
        function = self._types[document["type"]]
        if function is None:
            return
        started = {"started_at": _stamp(self._now), "attempt": document["attempt"] + 1, "run_at": None}
        document |= {"status": "running", **started}
        try:
            result = json.loads(json.dumps(function(**copy.deepcopy(document["args"]))))
            document |= {"status": "succeeded", "result": result}
        except Exception as error:
            described = {"type": type(error).__name__, "message": str(error), "event_id": None}
            document |= {"status": "failed", "failures": document["failures"] + 1, "error": described}
        document |= {"finished_at": _stamp(self._now), "duration": 0.0}


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
