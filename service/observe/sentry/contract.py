"""What the rest of the program sees of error reports, and a stand-in where there are none. Imports nothing heavy."""

import importlib.util
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from service.errors import SettingsError

RAVEN: Final = "raven"
SDK: Final = "sentry-sdk"
CLIENTS: Final = (RAVEN, SDK)
EXIT_SECONDS: Final = 3.0


class Errors(Protocol):
    """Never raises, and never blocks for a noticeable time."""

    def begin(self) -> None:
        """A request or an attempt starts: what this thread has logged before does not belong to it."""

    def capture(
        self, error: BaseException, *, tags: Mapping[str, object] = {}, request: Mapping[str, Any] | None = None
    ) -> str | None:
        """Reports an error unless it is expected; returns the event's id. `request` is a WSGI environ."""

    def capture_message(
        self, message: str, *, tags: Mapping[str, object] = {}, extra: Mapping[str, object] = {}, level: str = "error"
    ) -> str | None:
        """Reports a fault that is no exception here. One message is one issue: what varies goes into tags and extra."""

    def relay(self, send: Callable[[object], None]) -> None:
        """In a forked process: from now on its parent sends the reports."""

    def relayed(self, report: Any) -> None:
        """Sends such a report."""

    def flush(self, seconds: float = EXIT_SECONDS) -> bool:
        """Waits until everything is sent, at most so long; returns whether it is."""


class NoErrors:
    """Without SENTRY_DSN: no thread, no network, no cost."""

    def begin(self) -> None: ...

    def capture(
        self, error: BaseException, *, tags: Mapping[str, object] = {}, request: Mapping[str, Any] | None = None
    ) -> str | None:
        return None

    def capture_message(
        self, message: str, *, tags: Mapping[str, object] = {}, extra: Mapping[str, object] = {}, level: str = "error"
    ) -> str | None:
        return None

    def relay(self, send: Callable[[object], None]) -> None: ...

    def relayed(self, report: Any) -> None: ...

    def flush(self, seconds: float = EXIT_SECONDS) -> bool:
        return True


NO_ERRORS: Final = NoErrors()


def check(client: str) -> None:
    if client == SDK and importlib.util.find_spec("sentry_sdk") is None:
        raise SettingsError(
            f"SENTRY_CLIENT is {SDK!r}, which is not installed. "
            f"Install it with: pip install 'sandbox[sentry-sdk]'; or set SENTRY_CLIENT to {RAVEN!r}."
        )
