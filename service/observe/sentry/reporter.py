"""Captures errors, makes events of them, and hands them to the outbox through one of two clients.

An error comes here in four ways: by `capture`, which views, attempts and recovery call; as a log record of that
level; uncaught from a thread; uncaught from the main thread. If it comes twice in the same request or attempt, it is
one event. Nothing here raises. Only the outbox's thread waits.
"""

import logging
import platform
import socket
import sys
import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, Protocol

from service.observe import logs, scrubber
from service.observe.lockless import Lockless
from service.observe.logs import OncePerMinute
from service.observe.sentry import filters
from service.observe.sentry.contract import EXIT_SECONDS, SDK, check
from service.observe.sentry.event import Event, Shape, of_environ
from service.observe.sentry.outbox import Outbox, Parcel
from service.observe.sentry.trail import Trail, message

MARK: Final = "__sandbox_event__"
TAG_LIMIT: Final = 200
EXTRA_LIMIT: Final = 8192
OWN_LOGGERS: Final = ("sandbox.sentry", "raven", "sentry")

log = logging.getLogger("sandbox.sentry")


class Client(Protocol):
    def deliver(self, event: Event) -> None: ...


def connect(
    dsn: str, *, client: str, release: str, environment: str, process: str, packages: Collection[str] = ()
) -> "Reporter":
    """`packages` are those whose code is the application's own; `process` is the kind of this one: web, runner."""
    outbox = Outbox()
    reporter = Reporter(
        _client(client)(dsn, outbox),
        outbox,
        Shape({"service", *packages}),
        {
            "release": release,
            "environment": environment,
            "server_name": socket.gethostname(),
            "contexts": {"runtime": {"name": platform.python_implementation(), "version": platform.python_version()}},
            "tags": {"process": process},
        },
    )
    reporter.listen()
    return reporter


def _client(name: str) -> Any:
    check(name)
    if name == SDK:
        from service.observe.sentry.by_sdk import SdkClient

        return SdkClient
    from service.observe.sentry.by_raven import RavenClient

    return RavenClient


class Reporter:
    def __init__(self, client: Client, outbox: Outbox, shape: Shape, common: Mapping[str, Any]) -> None:
        self._client = client
        self._outbox = outbox
        self._shape = shape
        self._common = common
        self._trail = Trail()

    def listen(self) -> None:
        """Listens to log records, and to exceptions that nobody catches."""
        logging.getLogger().addHandler(ErrorsInTheLog(self, self._trail))
        sys.excepthook = _before(sys.excepthook, self.capture_uncaught)
        threading.excepthook = _before(threading.excepthook, lambda args: self.capture_uncaught(*args[:3]))

    def begin(self) -> None:
        self._trail.begin()

    def capture(
        self,
        error: BaseException,
        *,
        tags: Mapping[str, object] = {},
        request: Mapping[str, Any] | None = None,
        extra: Mapping[str, object] = {},
        logger: str = "",
    ) -> str | None:
        try:
            if filters.is_expected(error):
                return None
            known = self._known(error)
            if known is not None:
                return known
            event_id = self._send(
                lambda: self._shape.of_error(error, _group(tags)), tags, request=request, extra=extra, logger=logger
            )
            self._mark(error, event_id)
            return event_id
        except Exception as fault:
            _tell(fault)
            return None

    def capture_message(
        self, message: str, *, tags: Mapping[str, object] = {}, extra: Mapping[str, object] = {}, level: str = "error"
    ) -> str | None:
        try:
            return self._send(
                lambda: self._shape.of_message(message, _group(tags)) | {"level": level}, tags, extra=extra
            )
        except Exception as fault:
            _tell(fault)
            return None

    def capture_record(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        tags, extra = logs.facts(record), logs.extras(record)
        if "event_id" in tags:
            return  # reported by whoever wrote the line
        if error is not None:
            self.capture(error, tags=tags, extra=extra, logger=record.name)
        else:
            extra |= {"message": message(record)}
            self._send(lambda: self._shape.of_record(record, _group(tags)), tags, extra=extra)

    def capture_uncaught(self, kind: type[BaseException], error: BaseException | None, *_: object) -> None:
        if error is not None and not filters.is_end_of_process(error):
            self.capture(error, tags={"thread": threading.current_thread().name})

    def relay(self, send: Callable[[Parcel], None]) -> None:
        self._outbox.relay = send

    def relayed(self, report: Parcel) -> None:
        try:
            if self._outbox.full:
                self._outbox.drop()
            else:
                self._outbox.put(report)
        except Exception as fault:
            _tell(fault)

    def flush(self, seconds: float = EXIT_SECONDS) -> bool:
        return self._outbox.flush(seconds)

    def _send(
        self,
        make: Any,
        tags: Mapping[str, object],
        *,
        request: Mapping[str, Any] | None = None,
        extra: Mapping[str, object] = {},
        logger: str = "",
    ) -> str | None:
        if self._outbox.full:
            self._outbox.drop()
            return None
        event: Event = make() | {name: value for name, value in self._common.items() if name != "tags"}
        tags = {name: value for name, value in {**self._common["tags"], **tags}.items() if value is not None}
        event["tags"] = {name: _tag(name, value) for name, value in tags.items()}
        event["breadcrumbs"] = {"values": self._trail.crumbs()}
        event["extra"] = {str(name): _extra(value) for name, value in extra.items()}
        if logger:
            event["logger"] = logger
        if request is not None:
            event["request"] = of_environ(request)
        event_id = str(event["event_id"])
        self._client.deliver(event)
        return event_id

    def _known(self, error: BaseException) -> str | None:
        """The id of this exception's event, if it was reported in this request or attempt."""
        scope, event_id = object.__getattribute__(error, "__dict__").get(MARK, (None, None))
        return event_id if scope is self._trail.scope else None

    def _mark(self, error: BaseException, event_id: str | None) -> None:
        """Marks the exception itself: after its end, another object may have the same `id()`."""
        object.__setattr__(error, MARK, (self._trail.scope, event_id))


class ErrorsInTheLog(Lockless):
    """Adds each log record to the trail, and reports errors; once a minute where the record says `once`."""

    def __init__(self, reporter: Reporter, trail: Trail) -> None:
        super().__init__(logging.INFO)
        self.addFilter(OncePerMinute())
        self._reporter = reporter
        self._trail = trail

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if record.name.startswith(OWN_LOGGERS):
                return
            if record.levelno >= logging.ERROR:
                self._reporter.capture_record(record)
            self._trail.add(record)
        except Exception as fault:
            _tell(fault)


def _before(hook: Any, first: Any) -> Any:
    def both(*words: Any) -> Any:
        first(*words)
        return hook(*words)

    return both


def _extra(value: object) -> Any:
    return scrubber.end(value, EXTRA_LIMIT) if isinstance(value, str) else scrubber.plain(value)


def _tag(name: str, value: object) -> str:
    return scrubber.text(str(scrubber.field(name, value)), TAG_LIMIT)


def _group(tags: Mapping[str, object]) -> tuple[str, ...]:
    """The same fault in another type of task is another issue."""
    return (_tag("type", tags["type"]),) if "type" in tags else ()


def _tell(fault: Exception) -> None:
    log.error("an error could not be reported to Sentry", exc_info=fault, extra={"once": "sentry-fault"})
