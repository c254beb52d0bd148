"""Events that wait to be sent to Sentry, and the thread that sends them. Nobody else waits for the server.

The thread starts with the first event, so a process without errors has none, and a forked one gets its own. Under
gevent it is a greenlet.

- The server is away, busy, or asks to wait (429, 5xx): the event stays first in line. The pauses grow, and are at
  least as long as the server asks. After three tries the next event gets its turn. If the server then takes others,
  and this one fails three times more, the event is to blame, and is dropped.
- The server does not want the event (another 4xx), or has answered it with a 500 three times: it is dropped at once.
- The box is full: what comes is dropped.

The log says so once a minute.
"""

import atexit
import email.utils
import gzip
import http.client
import logging
import os
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from email.message import Message
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from service.observe.sentry.contract import EXIT_SECONDS

MOST_EVENTS: Final = 1000
MOST_BYTES: Final = 4 * 1024 * 1024
STEP_SECONDS: Final = 2.0
ANSWER_SECONDS: Final = 2.0
HEAD_BYTES: Final = 16 * 1024
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
LONGEST_WISH: Final = 3600.0
TRIES: Final = 3

log = logging.getLogger("sandbox.sentry")


class Parcel(NamedTuple):
    url: str
    headers: Mapping[str, str]
    body: bytes


class Kept:
    """A parcel in the line, and how its tries went."""

    def __init__(self, parcel: Parcel) -> None:
        self.parcel = parcel
        self.failures = 0
        self.faults = 0
        self.taken_before: int | None = None


class NotTaken(Exception):
    """The server is away, busy or asks to wait; the same event may be sent again."""

    def __init__(self, reason: str, wait_seconds: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_seconds = wait_seconds


class Unwanted(Exception):
    """The server does not want this event, now or later."""


def parcel(url: str, headers: Mapping[str, str], content: bytes) -> Parcel:
    """Packs it with gzip, which every server takes."""
    packed = gzip.compress(content, compresslevel=5)
    return Parcel(url, {**headers, "Content-Encoding": "gzip"}, packed)


class Outbox:
    def __init__(self, most_events: int = MOST_EVENTS, most_bytes: int = MOST_BYTES) -> None:
        self._most_events = most_events
        self._most_bytes = most_bytes
        self._tls: ssl.SSLContext | None = None
        self.relay: Callable[[Parcel], None] | None = None  # who takes events instead
        self._start_over()
        os.register_at_fork(after_in_child=self._start_over)
        atexit.register(self.flush)

    def _start_over(self) -> None:
        """Also in a forked child: the events and the thread are its parent's."""
        self._lock = threading.RLock()  # of C: an interruption in its own `with` leaves it unlocked, see lockless.py
        self._changed = threading.Condition(self._lock)
        self._waiting: deque[Kept] = deque()
        self._bytes = 0
        self._taken = 0
        self._dropped = 0
        self._failures = 0
        self._away = False
        self._is_at_work = False

    @property
    def full(self) -> bool:
        return len(self._waiting) >= self._most_events or self._bytes >= self._most_bytes

    def drop(self) -> None:
        """Counts an event that was not made because there is no room."""
        self._dropped += 1

    def put(self, new: Parcel) -> None:
        if self.relay is not None:
            return self.relay(new)
        with self._lock:
            self._waiting.append(Kept(new))
            self._bytes += len(new.body)
            if not self._is_at_work:  # is_alive() of a thread tells a lie after an interruption in the midst of it
                threading.Thread(target=self._work, name="sentry", daemon=True).start()
            self._changed.notify_all()
        return None

    def flush(self, seconds: float = EXIT_SECONDS) -> bool:
        """Waits until everything is sent, or the server takes nothing; returns whether all is sent."""
        until = time.monotonic() + seconds
        with self._lock:
            while self._waiting and self._failures == 0:
                left = until - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            return not self._waiting

    # --- the thread --------------------------------------------------------------------------------

    def _work(self) -> None:
        with self._lock:
            if self._is_at_work:
                return  # several have been started at once
            self._is_at_work = True
        try:
            while True:
                self._take_one()
        finally:
            self._is_at_work = False

    def _take_one(self) -> None:
        with self._lock:
            while not self._waiting:
                self._changed.wait(LONGEST_PAUSE)  # who put something in may have been interrupted before he said so
            first = self._waiting[0]
        try:
            pause = self._deliver(first)
        except Exception as error:  # whatever it is, the thread goes on
            log.error("an error could not be sent to Sentry: %s", error, extra={"once": "sentry-fault"})
            self._dropped += 1
            self._forget(first)
            pause = 0.0
        if pause:
            time.sleep(pause)

    def _deliver(self, first: Kept) -> float:
        """Returns how long to wait before the next try."""
        try:
            self._send(first)
        except Unwanted as reason:
            self._dropped += 1
            if first.faults < TRIES:
                self._failures = 0  # the server is there, and well
            self._forget(first)
            self._tell(reason)
            return 0.0
        except NotTaken as reason:
            with self._lock:
                self._away = True
                self._failures += 1
                first.failures += 1
                self._changed.notify_all()
            if first.failures % TRIES == 0:
                self._put_off(first)
            self._tell(reason)
            return max(self._back_off(), min(reason.wait_seconds, LONGEST_WISH))
        if self._away:
            log.info("Sentry takes errors again; %d were dropped", self._dropped, extra={"once": "sentry-again"})
            self._away, self._dropped = False, 0
        self._failures = 0
        self._taken += 1
        self._forget(first)
        return 0.0

    def _back_off(self) -> float:
        return min(FIRST_PAUSE * 2.0 ** min(self._failures - 1, 10), LONGEST_PAUSE)

    def _put_off(self, first: Kept) -> None:
        """Gives the next one its turn; drops one that fails while others are taken."""
        if first.taken_before is not None and first.taken_before < self._taken:
            self._dropped += 1
            self._forget(first)
            return
        with self._lock:
            first.taken_before = self._taken
            self._waiting.rotate(-1)

    def _forget(self, first: Kept) -> None:
        with self._lock:
            self._waiting.remove(first)
            self._bytes -= len(first.parcel.body)
            self._changed.notify_all()

    def _tell(self, reason: Exception) -> None:
        log.warning(
            "Sentry does not take errors: %s; %d wait, %d were dropped. SENTRY_DSN says where they go.",
            reason,
            len(self._waiting),
            self._dropped,
            extra={"once": "sentry"},
        )

    # --- the exchange ------------------------------------------------------------------------------

    def _send(self, what: Kept) -> None:
        status, headers = self._exchange(what.parcel)
        what.faults += status == 500
        if what.faults == TRIES:
            raise Unwanted(f"it has failed {TRIES} times at the same one")
        _judge(status, headers)

    def _exchange(self, what: Parcel) -> tuple[int, Message]:
        parts = urlsplit(what.url)
        connection = self._connection(parts.scheme, parts.hostname or "", parts.port)
        try:
            connection.request("POST", parts.path, what.body, {**what.headers, "Connection": "close"})
            return _answer(connection.sock)
        except (OSError, http.client.HTTPException, UnicodeError) as error:
            raise NotTaken(_reason(error)) from error
        finally:
            connection.close()

    def _connection(self, scheme: str, host: str, port: int | None) -> http.client.HTTPConnection:
        if scheme != "https":
            return http.client.HTTPConnection(host, port, timeout=STEP_SECONDS)
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return http.client.HTTPSConnection(host, port, timeout=STEP_SECONDS, context=self._tls)


def _answer(sock: socket.socket) -> tuple[int, Message]:
    """Reads the head of the answer against one deadline: a socket's own time-out starts anew with each byte."""
    until = time.monotonic() + ANSWER_SECONDS
    head = b""
    while b"\r\n\r\n" not in head:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        sock.settimeout(left)
        received = sock.recv(4096)
        if not received:
            raise ConnectionError("it hung up")
        head += received
        if len(head) > HEAD_BYTES:
            raise ConnectionError("its answer is not HTTP")
    status, _, lines = head.partition(b"\r\n")
    words = status.split(None, 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise ConnectionError("its answer is not HTTP")
    return int(words[1]), email.message_from_bytes(lines)


def _judge(status: int, headers: Message) -> None:
    wish = _wish(headers)
    reason = str(headers["X-Sentry-Error"] or "")[:200]
    said = f"it answers {status}" + (f", {reason}" if reason else "")
    if status == 429:
        raise NotTaken(said, LONGEST_PAUSE if wish is None else wish)
    if status >= 500 or status == 408:
        raise NotTaken(said, wish or 0.0)
    if not 200 <= status < 300:
        raise Unwanted(said)


def _wish(headers: Message) -> float | None:
    """For how many seconds the server wants to be left alone; it says a number or a date."""
    if headers["Retry-After"] is None:
        return None
    text = str(headers["Retry-After"])
    try:
        return max(0.0, float(text))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not to be trusted: {error.verify_message}"
    return f"{error.strerror if isinstance(error, OSError) and error.strerror else error or type(error).__name__}"
