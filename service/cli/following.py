"""What happens to a task, as it happens: the stream of /tasks/<uid>/events.

A stream breaks off at a reload, and goes on in another worker from the last event that was read.
"""

import http.client
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, Final, NamedTuple

from service.cli import caller, showing
from service.cli.caller import TIMED_OUT, CallFailed, Service, part
from service.cli.waits import ENDS, until_ended

PAUSE_SECONDS: Final = 0.5

Show = Callable[[dict[str, Any]], None]


class _Event(NamedTuple):
    name: str
    number: str
    about: Any


def to_its_end(service: Service, uid: str, timeout_seconds: float | None, show: Show) -> dict[str, Any]:
    """Shows each line of its log as it comes, and how far it is. Returns the document at its end."""
    until = math.inf if timeout_seconds is None else time.monotonic() + timeout_seconds
    with showing.ProgressLine() as progress:
        for event in _events(service, uid, until):
            if event.name == "log":
                progress.clear()
                for line in event.about["lines"]:
                    show(line)
            elif event.name == "task":
                progress.show(_how_far(event.about))
    found: dict[str, Any] = service.get(f"/tasks/{part(uid)}")
    if found["status"] not in ENDS and time.monotonic() >= until:
        raise CallFailed(f"the task {uid} is {found['status']} after {timeout_seconds:g} s; it goes on.", TIMED_OUT)
    return found


def seen_to_its_end(service: Service, uid: str, timeout: float | None, *, follow: bool) -> dict[str, Any]:
    """Of a task that acts on something: waits, and says why it did not succeed. `follow` shows its log on the way."""
    if follow:
        ended = to_its_end(service, uid, timeout, lambda line: showing.log_line(line, sys.stderr))
    else:
        ended = until_ended(service, uid, timeout)
    if ended["status"] != "succeeded":
        error = ended["error"] or {"message": "it was cancelled"}
        verb = "is" if ended["status"] == "unreadable" else "has"
        showing.tell(f"{ended['type']} {verb} {ended['status']}: {error['message']}")
    return ended


def _how_far(document: dict[str, Any]) -> str:
    progress = document["progress"] or {}
    fraction = progress.get("fraction")
    share = "" if fraction is None else f" {fraction:.0%}"
    return f"{document['status']}{share} {progress.get('message') or ''}".rstrip()


def _events(service: Service, uid: str, until: float) -> Iterator[_Event]:
    """Ends with the task, or with the time."""
    headers = {"Accept": "text/event-stream"}
    while time.monotonic() < until:
        with (
            suppress(OSError, http.client.HTTPException),
            service.stream(f"/tasks/{part(uid)}/events", headers, until) as lines,
        ):
            for event in _parsed(lines):
                if time.monotonic() >= until:
                    return
                if event.number:
                    headers["Last-Event-ID"] = event.number
                if event.name == "end":
                    return
                yield event
        time.sleep(max(0.0, min(PAUSE_SECONDS, until - time.monotonic())))


def _parsed(lines: Iterable[bytes]) -> Iterator[_Event]:
    """A heartbeat is an event without a name."""
    fields: dict[str, str] = {}
    for line in lines:
        text = line.decode(errors="replace").rstrip("\r\n")
        if text:
            name, _, value = text.partition(":")
            fields[name] = value.removeprefix(" ")
            continue
        about = caller.read_json(fields["data"]) if "data" in fields else {}
        if not isinstance(about, dict):
            raise CallFailed("what answers is no sandbox: its stream holds an event that cannot be read.")
        yield _Event(fields.get("event", ""), fields.get("id", ""), about)
        fields = {}
