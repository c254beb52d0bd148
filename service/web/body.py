"""A request's body: which content type it has, and how large it may be."""

from typing import Any, Final

from service.web.problem import Problem

BODY_LIMIT: Final = 256 * 1024  # bytes


def read(environ: dict[str, Any], limit: int = BODY_LIMIT) -> bytes:
    kind = environ.get("CONTENT_TYPE", "")
    if kind != "application/json" and kind.partition(";")[0].strip().lower() != "application/json":
        raise Problem(415, "Content-Type: send application/json")
    if int(environ.get("CONTENT_LENGTH") or 0) > limit:
        raise _too_large(limit)
    try:
        body: bytes = environ["wsgi.input"].read(limit + 1)
    except OSError as error:
        raise Problem(408, "the body was not complete in time, or the connection broke") from error
    if len(body) > limit:
        raise _too_large(limit)
    return body


def _too_large(limit: int) -> Problem:
    return Problem(413, f"the body is larger than {limit} bytes")
