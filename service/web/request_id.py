"""The X-Request-ID of every request and answer: the client's, if it is sane, or a new one."""

import os
import re
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any, Final, TypeAlias

HEADER: Final = "X-Request-ID"
KEY: Final = "sandbox.request_id"
SANE: Final = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")

Wsgi: TypeAlias = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def new() -> str:
    return os.urandom(12).hex()


class RequestIds:
    """WSGI middleware around all that answers: every answer gets an id."""

    def __init__(self, application: Wsgi, begin: Callable[[], None]) -> None:
        """`begin` is called at the start of each request."""
        self._application = application
        self._begin = begin
        # Random once, then counting: ids need not be secret, and to ask the kernel each time is slow.
        self._numbers = count(int.from_bytes(os.urandom(12)))

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        self._begin()
        sent = environ.get("HTTP_X_REQUEST_ID")
        request_id = environ[KEY] = sent if sent is not None and SANE.fullmatch(sent) else self._next()

        def start(status: str, headers: list[tuple[str, str]], *more: Any) -> Any:
            headers.append((HEADER, request_id))
            return start_response(status, headers, *more)

        return self._application(environ, start)

    def _next(self) -> str:
        return f"{next(self._numbers):024x}"
