"""The service's calls as plain values. What they look like is docs/http.md; nothing here is sent."""

import json
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, NotRequired, TypedDict
from urllib.parse import quote

BATCH_TASKS: Final = 1000
BATCH_BYTES: Final = 256 * 1024
PAGE_TASKS: Final = 100


class Unique(TypedDict):
    """Of what there is one task at a time: a text, or {"args": [names of arguments]}."""

    key: str | Mapping[str, Sequence[str]]
    until: NotRequired[str]  # finished, or started
    on_conflict: NotRequired[str]  # return, reject, replace, keep_last


class NewTask(TypedDict):
    """A task to be created, as create_many takes it."""

    type: str
    args: NotRequired[Mapping[str, Any]]
    queue: NotRequired[str | None]
    delay: NotRequired[float | timedelta | None]
    run_at: NotRequired[datetime | str | None]
    max_attempts: NotRequired[int | None]
    timeout: NotRequired[float | timedelta | None]
    priority: NotRequired[str | None]
    unique: NotRequired[Unique | None]


class Filters(TypedDict):
    """Which tasks: of a list, or those that retry_many and cancel_many act on."""

    status: NotRequired[str | Sequence[str] | None]
    type: NotRequired[str | Sequence[str] | None]
    queue: NotRequired[str | Sequence[str] | None]
    created_by: NotRequired[str | None]
    parent: NotRequired[str | None]
    schedule: NotRequired[str | None]
    created_after: NotRequired[datetime | str | None]
    created_before: NotRequired[datetime | str | None]
    error: NotRequired[str | None]
    q: NotRequired[str | None]


def new_key() -> str:
    """A name that nobody else has: for an Idempotency-Key, or a request."""
    return secrets.token_hex(16)


def given_or_new(key: str | None) -> str:
    """An Idempotency-Key. An empty one would stand for any request that has lost its own."""
    if key == "":
        raise ValueError("idempotency_key is empty; leave it out, or give one")
    if key is not None and not all("!" <= character <= "~" for character in key):
        raise ValueError(f"idempotency_key {key!r}: only characters of ASCII that can be seen, and no blanks")
    return new_key() if key is None else key


@dataclass(frozen=True)
class Call:
    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None
    repeatable: bool = True  # sent twice, it does what it does when sent once
    wait: Callable[[], int] | None = None  # for how many seconds the service may hold back the answer of the next try
    request_id: str = field(default_factory=new_key)  # one for all tries: it finds them in the service's log

    def headers_for(self, wait_seconds: int) -> dict[str, str]:
        prefer = {"Prefer": f"wait={wait_seconds}"} if wait_seconds else {}
        return {**self.headers, **prefer, "X-Request-ID": self.request_id}


def create(task: NewTask, key: str | None) -> Call:
    return _post("/tasks", encoded(task), given_or_new(key))


@dataclass(frozen=True)
class Batch:
    first: int  # its place in what create_many was given
    call: Call


def batches(tasks: Iterable[NewTask], key: str) -> Iterator[Batch]:
    """The same tasks make the same batches with the same keys, so that a second run finds what the first has made."""
    for number, (first, texts) in enumerate(_portions(map(encoded, tasks))):
        yield Batch(first, _post("/tasks/batch", b"[" + b",".join(texts) + b"]", f"{key}/{number}"))


def _portions(texts: Iterable[bytes]) -> Iterator[tuple[int, list[bytes]]]:
    first, portion, size = 0, list[bytes](), 2
    for text in texts:
        if portion and (len(portion) == BATCH_TASKS or size + len(text) + 1 > BATCH_BYTES):
            yield first, portion
            first, portion, size = first + len(portion), [], 2
        portion.append(text)
        size += len(text) + 1
    if portion:
        yield first, portion


def encoded(task: NewTask) -> bytes:
    """As JSON, without what is None: the service takes what is missing for its default."""
    return _as_json(_given(task))


def _as_json(members: Mapping[str, Any]) -> bytes:
    return json.dumps(members, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value.isoformat() if isinstance(value, datetime) else value


def _post(path: str, content: bytes, key: str) -> Call:
    return Call("POST", path, headers={"Content-Type": "application/json", "Idempotency-Key": key}, content=content)


def read(uid: str, wait: Callable[[], int] | None = None) -> Call:
    return Call("GET", _path(uid), wait=wait)


def page(filters: Filters, cursor: str | None) -> Call:
    wanted = {name: value if isinstance(value, str) else ",".join(value) for name, value in _given(filters).items()}
    cursors = {} if cursor is None else {"cursor": cursor}
    return Call("GET", "/tasks", query={**wanted, **cursors, "limit": str(PAGE_TASKS)})


def act_on_many(act: str, filters: Filters) -> Call:
    """It takes no key: sent twice, two tasks do the same one after the other."""
    return _unkeyed(f"/tasks/{act}", _given(filters), repeatable=False)


def count_for(act: str, filters: Filters) -> Call:
    return _unkeyed(f"/tasks/{act}", {**_given(filters), "dry_run": True})


def pause(kind: str, name: str, reason: str | None, until: datetime | str | None) -> Call:
    return _unkeyed(f"/{kind}/{quote(name, safe='')}/pause", _given({"reason": reason, "until": until}))


def resume(kind: str, name: str) -> Call:
    return Call("POST", f"/{kind}/{quote(name, safe='')}/resume")


def _given(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in members.items() if value is not None}


def _unkeyed(path: str, members: Mapping[str, Any], *, method: str = "POST", repeatable: bool = True) -> Call:
    headers = {"Content-Type": "application/json"}
    return Call(method, path, headers=headers, content=_as_json(members), repeatable=repeatable)


def cancel(uid: str) -> Call:
    return Call("DELETE", _path(uid))


def purge(uid: str) -> Call:
    return Call("DELETE", _path(uid), query={"purge": ""})


def log(uid: str, after: str) -> Call:
    return Call("GET", f"{_path(uid)}/log", query={"after": after})


def attempts(uid: str) -> Call:
    return Call("GET", f"{_path(uid)}/attempts")


def events(uid: str, last_seen: str) -> Call:
    seen = {"Last-Event-ID": last_seen} if last_seen else {}
    return Call("GET", f"{_path(uid)}/events", headers={"Accept": "text/event-stream", **seen})


def retry(uid: str) -> Call:
    """It takes no key: sent twice, it may run the task twice."""
    return Call("POST", f"{_path(uid)}/retry", repeatable=False)


def create_workspace(email: str, take_over: bool) -> Call:
    return _unkeyed("/workspaces", {"email": email, "take_over": take_over})


def workspaces() -> Call:
    return Call("GET", "/workspaces")


def workspace(slug: str) -> Call:
    return Call("GET", _workspace(slug))


def act_on_workspace(slug: str, action: str, given: Mapping[str, Any]) -> Call:
    """Sent twice, the second would meet the first, and be refused."""
    return _unkeyed(f"{_workspace(slug)}/{action}", given, repeatable=action == "extend")


def link_workspace(slug: str) -> Call:
    return Call("POST", f"{_workspace(slug)}/link")


def delete_workspace(slug: str, force: bool, keep_branch: bool) -> Call:
    query = {"force": ""} if force else {}
    if keep_branch:
        query["branch"] = "keep"
    return Call("DELETE", _workspace(slug), query=query, repeatable=False)


def releases() -> Call:
    return Call("GET", "/releases")


def promote(release: str) -> Call:
    return _unkeyed(f"/releases/{quote(release, safe='')}/promote", {}, repeatable=False)


def _workspace(slug: str) -> str:
    return f"/workspaces/{quote(slug, safe='')}"


def types() -> Call:
    return Call("GET", "/types")


def queues() -> Call:
    return Call("GET", "/queues")


def runners() -> Call:
    return Call("GET", "/runners")


def schedules() -> Call:
    return Call("GET", "/schedules")


def schedule(name: str) -> Call:
    return Call("GET", _schedule(name))


def put_schedule(name: str, wanted: Mapping[str, Any]) -> Call:
    return _unkeyed(_schedule(name), _given(wanted), method="PUT")


def delete_schedule(name: str) -> Call:
    return Call("DELETE", _schedule(name))


def run_schedule(name: str, key: str | None) -> Call:
    return Call("POST", f"{_schedule(name)}/run", headers={"Idempotency-Key": given_or_new(key)})


def pause_schedule(name: str) -> Call:
    return Call("POST", f"{_schedule(name)}/pause")


def resume_schedule(name: str) -> Call:
    return Call("POST", f"{_schedule(name)}/resume")


def limits() -> Call:
    return Call("GET", "/limits")


def limit(name: str) -> Call:
    return Call("GET", _limit(name))


def set_limit(name: str, rule: Mapping[str, Any]) -> Call:
    return _unkeyed(_limit(name), _given(rule), method="PUT")


def remove_limit(name: str) -> Call:
    return Call("DELETE", _limit(name))


def history(wanted: Mapping[str, Any]) -> Call:
    return Call("GET", "/metrics/history", query=_given(wanted))


def ready() -> Call:
    return Call("GET", "/health/ready")


def _path(uid: str) -> str:
    return f"/tasks/{quote(uid, safe='')}"


def _schedule(name: str) -> str:
    return f"/schedules/{quote(name, safe='')}"


def _limit(name: str) -> str:
    return f"/limits/{quote(name, safe='')}"
