"""An error as the client sees it (RFC 9457). Knows nothing of Flask."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

import msgspec

from service.errors import SandboxError

CONTENT_TYPE: Final = "application/problem+json"

Headers = Sequence[tuple[str, str]]

_encode = msgspec.json.Encoder().encode


class Problem(SandboxError):
    """The service cannot do what a request asks; `detail` says what to change."""

    def __init__(self, status: int, detail: str, *, headers: Headers = (), **members: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers
        self.members = {name: value for name, value in members.items() if value is not None}

    def body(self) -> bytes:
        title = HTTPStatus(self.status).phrase
        return _encode(
            {"type": "about:blank", "title": title, "status": self.status, "detail": self.detail} | self.members
        )


def not_found(detail: str) -> Problem:
    return Problem(HTTPStatus.NOT_FOUND, detail)


def wrong(detail: str, *, field: str | None = None, index: int | None = None) -> Problem:
    """A 422 that names the field, and in a batch the task."""
    return Problem(HTTPStatus.UNPROCESSABLE_ENTITY, detail, field=field, index=index)
