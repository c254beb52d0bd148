"""A task as it changes: `GET /tasks/<uid>/events`, a stream of server-sent events.

A stream joins the followers first, and then reads document and log: so nothing falls between. Of what happens later the
store's wake-ups tell (store/wakeups.py). An event's id says up to where its reader has come: the document's revision
and the number of the last line. A reader that comes back with it gets what it has not seen, and nothing twice.

A stream ends with its task, when the process is about to stop, soon after its reader's token has gone, and after some
minutes: its reader comes back, perhaps to another process. Whether the reader is still there, only a write can show.

Threads and greenlets alike: the worker patches `threading`.
"""

import logging
import random
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from http import HTTPStatus
from typing import Any, Final, NamedTuple

import msgspec

from service.errors import SandboxError
from service.store import Store
from service.tasks.document import Task
from service.web.answers import Answer
from service.web.api.log_lines import shown
from service.web.auth import IS_KNOWN
from service.web.problem import Problem

HEARTBEAT_SECONDS: Final = 15.0
LONGEST_SECONDS: Final = 600.0
PAUSE_SECONDS: Final = 1.0
LINES_AT_ONCE: Final = 100
CONTENT_TYPE: Final = "text/event-stream; charset=utf-8"
HEADERS: Final = (("Cache-Control", "no-store"), ("X-Accel-Buffering", "no"))
LAST_SEEN: Final = re.compile(r"([0-9]{1,15})-([0-9]{1,15})(-end)?")

_RARE_BREAKS: Final = [(char.encode(), f"\\u{ord(char):04x}".encode()) for char in "\x85\u2028\u2029"]

Shown = Callable[[Task], dict[str, Any]]
_encode = msgspec.json.Encoder().encode
log = logging.getLogger(__name__)


class Reached(NamedTuple):
    """Up to where a reader has come."""

    revision: int = 0
    line: int = 0
    is_end: bool = False

    def __str__(self) -> str:
        return f"{self.revision}-{self.line}{'-end' if self.is_end else ''}"


def last_seen(header: str | None) -> Reached:
    """What does not come from here means: nothing yet."""
    found = LAST_SEEN.fullmatch(header.strip()) if header else None
    return Reached(int(found[1]), int(found[2]), found[3] is not None) if found else Reached()


class Round(NamedTuple):
    """Events to be sent, and up to where they bring a reader."""

    events: list[bytes]
    seen: Reached
    has_more: bool = False


class Stream:
    """One reader. Any thread may tell it that there is news."""

    def __init__(self, uid: str) -> None:
        self.uid = uid
        self.text: bytes | None = None
        self.is_followed = False  # since the wake-ups have begun to tell
        self.news = threading.Event()


class _Body:
    """A stream's events. Whoever sends them closes it, also when the reader has gone, or nothing was sent."""

    def __init__(self, events: Iterator[bytes], leave: Callable[[], None]) -> None:
        self._events = events
        self._leave = leave

    def __iter__(self) -> Iterator[bytes]:
        return self._events

    def close(self) -> None:
        self._leave()


class _EventAnswer(Answer):
    """Its length is not known."""

    def __init__(self, body: Iterable[bytes]) -> None:
        super().__init__(headers=HEADERS, content_type=CONTENT_TYPE)
        del self.headers["Content-Length"]
        self.response = body


class Events:
    def __init__(self, store: Store, *, limit: int) -> None:
        self._store = store
        self._limit = limit
        self._lock = threading.Lock()
        self._streams: dict[int, dict[str, set[Stream]]] = {}  # by partition and UID
        self._released = False
        self.count = 0

    def answer(self, uid: str, environ: dict[str, Any], show: Shown) -> Answer:
        """The task is there. `show` makes of it what this reader may see."""
        seen = last_seen(environ.get("HTTP_LAST_EVENT_ID"))
        if seen.is_end and self._has_seen_all(uid, seen):
            return Answer(status=HTTPStatus.NO_CONTENT, headers=HEADERS)  # by this a browser ceases to come back
        if environ["REQUEST_METHOD"] == "HEAD":
            return _EventAnswer(())
        seen, stream = seen._replace(is_end=False), Stream(uid)
        if not self._join(stream):
            retry_after = str(random.randint(1, 5))
            detail = "too many clients read events here; ask again later, or GET the task"
            raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers=[("Retry-After", retry_after)])
        events = self._events(stream, seen, show, environ.get(IS_KNOWN, _always))
        return _EventAnswer(_Body(events, lambda: self._leave(stream)))

    def leave_room(self, most: int) -> None:
        """For other clients: this process can hold so many in all, and half of them may read events."""
        self._limit = min(self._limit, most // 2)

    def release(self) -> None:
        """The process is about to stop: all streams end now, and those that come still do so at once."""
        with self._lock:
            self._released = True
            streams = [stream for partition in self._streams for stream in self._all(partition)]
        _wake(streams)

    # --- one stream --------------------------------------------------------------------------------

    def _has_seen_all(self, uid: str, seen: Reached) -> bool:
        found = self._store.read(uid)
        if found is None or found.task.revision != seen.revision:
            return False
        return found.task.finished or not found.is_readable

    def _events(self, stream: Stream, seen: Reached, show: Shown, is_known: Callable[[], bool]) -> Iterator[bytes]:
        yield f"retry: {random.randint(1000, 3000)}\n\n".encode()
        wrote = asked = time.monotonic()
        until = asked + LONGEST_SECONDS * random.uniform(0.8, 1.0)
        while not self._released and time.monotonic() < until:
            stream.news.clear()
            try:
                if time.monotonic() >= asked + HEARTBEAT_SECONDS:
                    if not is_known():
                        return
                    asked = time.monotonic()
                found = self._round(stream, seen, show)
            except SandboxError as error:
                log.warning("%s; a stream of events waits", error, extra={"once": "events"})
                found = Round([b":\n\n"], seen)
                time.sleep(PAUSE_SECONDS)
            if found.events:
                yield b"".join(found.events)
                wrote = time.monotonic()
            if found.seen.is_end:
                return
            seen = found.seen
            if not found.has_more and not stream.news.wait(max(0.0, wrote + HEARTBEAT_SECONDS - time.monotonic())):
                yield b":\n\n"
                wrote = time.monotonic()

    def _round(self, stream: Stream, seen: Reached, show: Shown) -> Round:
        """What its reader has not seen. It reads first the document and then the log: so when the task has ended, all
        its lines are there.
        """
        found = self._store.read(stream.uid)
        logged = self._store.logbook.read(stream.uid, seen.line, LINES_AT_ONCE)
        stream.text = found.text if found else None
        events: list[bytes] = []
        if seen.line > logged.last:  # the number is another task's that had this UID
            return Round(events, seen._replace(line=0), has_more=True)
        if logged.lines:
            seen = seen._replace(line=logged.lines[-1].number)
            events.append(_event("log", shown(logged), seen))
        if seen.line < logged.last:
            return Round(events, seen, has_more=True)
        if found is None:
            seen = seen._replace(is_end=True)
            return Round([*events, _event("end", {"status": None}, seen)], seen)
        if found.task.revision != seen.revision or not found.is_readable:
            seen = seen._replace(revision=found.task.revision)
            events.append(_event("task", show(found.task), seen))
        if found.task.finished or not found.is_readable:
            seen = seen._replace(is_end=True)
            events.append(_event("end", {"status": found.task.status}, seen))
        return Round(events, seen)

    # --- who reads ---------------------------------------------------------------------------------

    def _join(self, stream: Stream) -> bool:
        partition = self._store.partition(stream.uid)
        assert partition is not None  # the task is there
        with self._lock:
            if self._released:
                return True
            if self.count >= self._limit:
                return False
            if partition not in self._streams:
                self._store.wakeups.follow(partition, self)  # first: if it fails, nothing is to be undone
                self._streams[partition] = {}
            self._streams[partition].setdefault(stream.uid, set()).add(stream)
            self.count += 1
        return True

    def _leave(self, stream: Stream) -> None:
        partition = self._store.partition(stream.uid)
        assert partition is not None
        with self._lock:
            streams = self._streams.get(partition, {})
            if stream not in streams.get(stream.uid, ()):
                return
            self.count -= 1
            streams[stream.uid].discard(stream)
            if not streams[stream.uid]:
                del streams[stream.uid]
            if not streams:
                del self._streams[partition]
                self._store.wakeups.unfollow(partition, self)

    def _all(self, partition: int) -> list[Stream]:
        return [stream for together in self._streams.get(partition, {}).values() for stream in together]

    # --- what the wake-ups tell --------------------------------------------------------------------

    def changed(self, partition: int, status: str, uids: Sequence[str]) -> None:
        with self._lock:
            known = self._streams.get(partition, {})
            streams = [stream for uid in uids for stream in known.get(uid, ())]
        _wake(streams)

    def look(self, partition: int) -> None:
        """At the documents, all in one call. That a line is there, the wake-ups tell; each stream looks at its log when
        it has just begun to be told, and with each heartbeat.
        """
        with self._lock:
            streams = self._all(partition)
        try:
            texts = self._store.texts([stream.uid for stream in streams])
        except SandboxError:
            return  # each stream finds out by itself
        _wake(
            [
                stream
                for stream, text in zip(streams, texts, strict=True)
                if not stream.is_followed or text != stream.text
            ]
        )
        for stream in streams:
            stream.is_followed = True


def _always() -> bool:
    return True


def _wake(streams: Sequence[Stream]) -> None:
    for stream in streams:
        stream.news.set()


def _event(kind: str, data: object, seen: Reached) -> bytes:
    """JSON has no line breaks of its own: no text can look like another event. What only some readers take for a line
    break is escaped.
    """
    text = _encode(data)
    for rare, escaped in _RARE_BREAKS:
        text = text.replace(rare, escaped)
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (str(seen).encode(), kind.encode(), text)
