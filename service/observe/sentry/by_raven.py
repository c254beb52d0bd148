"""raven as the client. We use what it does well: it reads the DSN, and speaks the protocol.

What is unsafe in it stays off: its hooks into logging and libraries, its contexts, its way to recognise duplicates,
its way to show values, its transports. See docs/decisions/0014-raven-and-sentry-sdk.md.
"""

import contextlib
import datetime
import json
import sys
from collections.abc import Iterator
from typing import Any

from service.observe.sentry.event import Event
from service.observe.sentry.outbox import Outbox, parcel

TRANSPORTS = ("gevent", "requests", "tornado", "eventlet", "twisted")


@contextlib.contextmanager
def _without(names: tuple[str, ...]) -> Iterator[None]:
    """Hides libraries that raven would import for its transports: 10 MB that no runner needs."""
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: cannot be imported
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


with _without(TRANSPORTS):
    import raven.base
    import raven.events


class Prepared(raven.events.BaseEvent):  # type: ignore[misc]
    """An event that is complete already."""

    name = "prepared"

    def to_string(self, data: Event) -> str:
        return ""


class RavenClient(raven.base.Client):  # type: ignore[misc]
    def __init__(self, dsn: str, outbox: Outbox) -> None:
        self._outbox = outbox
        super().__init__(
            dsn,
            install_sys_hook=False,
            install_logging_hook=False,
            hook_libraries=[],
            enable_breadcrumbs=False,
            context={},
            processors=(),
            include_versions=False,
        )

    def deliver(self, event: Event) -> None:
        self.capture(f"{__name__}.{Prepared.__name__}", data=event, date=datetime.datetime.now(datetime.UTC))

    def transform(self, data: Any) -> Any:
        return data

    def encode(self, data: Event) -> bytes:
        return json.dumps(data, separators=(",", ":"), default=str).encode()

    def get_content_encoding(self) -> str:
        return "gzip"

    def send_remote(self, url: str, data: bytes, headers: dict[str, str] | None = None) -> None:
        self._outbox.put(parcel(url, headers or {}, data))
