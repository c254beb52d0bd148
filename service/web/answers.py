"""The answers of the Flask application: JSON, and a problem for every error."""

import logging
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, Final

import msgspec
from flask import Blueprint, Flask, Response, request
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException

from service.errors import InvalidTask, InvalidTransition, KeyHeld, SandboxError, StoreRefused, StoreUnavailable
from service.observe.sentry import Errors
from service.web import problem, request_id
from service.web.auth import CALLER
from service.web.problem import Problem

_encode = msgspec.json.Encoder().encode
_log = logging.getLogger(__name__)


class Answer(Response):
    """A body that is sent as it is. werkzeug's own way would work out again what is known here."""

    def __init__(
        self,
        body: bytes = b"",
        status: int = 200,
        headers: problem.Headers = (),
        content_type: str = "application/json",
    ) -> None:
        length = ("Content-Length", str(len(body)))
        super().__init__(status=status, headers=Headers([("Content-Type", content_type), length, *headers]))
        self.response = [body]

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response(self.status, self.headers.to_wsgi_list())
        return () if environ["REQUEST_METHOD"] == "HEAD" else self.response  # type: ignore[return-value]


def json(value: Any, status: int = 200, headers: problem.Headers = ()) -> Answer:
    return Answer(_encode(value), status, headers)


def of_problem(error: Problem) -> Answer:
    return Answer(error.body(), error.status, error.headers, problem.CONTENT_TYPE)


def register(app: Flask | Blueprint, errors: Errors, answer: Callable[[Problem], Response] = of_problem) -> None:
    """Whatever is raised becomes a problem, and that an answer."""

    def handle(kind: type[Exception], problem_of: Callable[[Any], Problem]) -> None:
        app.register_error_handler(kind, lambda error: answer(problem_of(error)))

    handle(Problem, lambda error: error)
    handle(InvalidTask, of_invalid_task)
    handle(InvalidTransition, of_invalid_transition)
    handle(KeyHeld, of_held_key)
    handle(StoreUnavailable, _of_store_unavailable)
    handle(StoreRefused, _of_store_refused)
    handle(HTTPException, _of_http_exception)
    handle(Exception, _of_the_unforeseen(errors))


def of_invalid_task(error: InvalidTask) -> Problem:
    return problem.wrong(error.detail, field=error.field)


def of_invalid_transition(error: InvalidTransition) -> Problem:
    return Problem(HTTPStatus.CONFLICT, str(error))


def of_held_key(error: KeyHeld) -> Problem:
    return Problem(HTTPStatus.CONFLICT, str(error), holder=error.holder, index=error.index)


def _of_store_unavailable(error: StoreUnavailable) -> Problem:
    _log.warning("answering 503: %s", error, extra={"once": "store"})
    return unavailable(error)


def _of_store_refused(error: StoreRefused) -> Problem:
    _log.error("Redis refused a command", exc_info=error, extra={"once": "refused", "fields": _about_request()})
    return unavailable("Redis refused a command, and the service's log says why")


def unavailable(reason: SandboxError | str, **members: Any) -> Problem:
    detail = f"{for_clients(reason)}; send the same request again later"
    return Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers=[("Retry-After", "1")], **members)


def for_clients(reason: SandboxError | str) -> str:
    return reason.for_clients if isinstance(reason, StoreUnavailable) else str(reason)


def _of_http_exception(error: HTTPException) -> Problem:
    """What Flask itself refuses: unknown paths, methods that a path does not have."""
    status = error.code or HTTPStatus.INTERNAL_SERVER_ERROR
    kept = [(name, value) for name, value in error.get_headers() if name not in ("Content-Type", "Content-Length")]
    return Problem(status, DETAILS.get(status) or error.description or error.name, headers=kept)


DETAILS: Final[dict[int, str]] = {
    HTTPStatus.NOT_FOUND: "there is nothing at this path; GET /openapi.json describes all that there is",
    HTTPStatus.METHOD_NOT_ALLOWED: "this path does not take this method; the header Allow lists those that it takes",
}


def _of_the_unforeseen(errors: Errors) -> Callable[[Exception], Problem]:
    def problem_of(error: Exception) -> Problem:
        environ = request.environ
        found = _about_request()
        event_id = errors.capture(error, tags=found, request=environ)
        asked = {"method": environ["REQUEST_METHOD"], "path": environ["PATH_INFO"]}
        _log.error("a request failed", exc_info=error, extra={"fields": {**found, **asked, "event_id": event_id}})
        return Problem(HTTPStatus.INTERNAL_SERVER_ERROR, "the service has a fault; it is in its log")

    return problem_of


def _about_request() -> dict[str, object]:
    environ = request.environ
    known = {
        "request_id": environ.get(request_id.KEY),
        "route": request.url_rule and request.url_rule.rule,
        "caller": environ.get(CALLER),
    }
    return {name: value for name, value in known.items() if value}
