"""Every exception of this package, and which status of the service becomes which of them."""

from collections.abc import Mapping
from typing import Any, Final


class SandboxError(Exception):
    """The base of all. `problem`, `status` and `request_id` are None where there was no answer."""

    problem: Mapping[str, Any] | None = None  # the service's answer, as it came (RFC 9457)
    status: int | None = None
    request_id: str | None = None  # finds the request in the service's log


class WrongAddress(SandboxError, ValueError):
    """SANDBOX_URL or SANDBOX_TOKEN, or what was given instead, cannot be used."""


class Unreachable(SandboxError):
    """No answer came: the connection failed, or was lost, or the answer took too long."""

    def __init__(self, message: str, *, request_id: str | None, sent: bool) -> None:
        super().__init__(message)
        self.request_id = request_id
        self.sent = sent  # whether the service may have got the request


class UnexpectedAnswer(SandboxError):
    """What answered is no sandbox."""

    def __init__(self, message: str, *, status: int, request_id: str | None) -> None:
        super().__init__(message)
        self.status = status
        self.request_id = request_id


class TimedOut(SandboxError, TimeoutError):
    """The task had not finished when the time of `wait` was over. It goes on."""


class ProblemError(SandboxError):
    """The service answered with an error. `detail` says what to change."""

    problem: Mapping[str, Any]
    status: int

    def __init__(
        self, status: int, problem: Mapping[str, Any], *, request_id: str | None = None, retry_after: float = 0.0
    ) -> None:
        self.status = status
        self.problem = problem
        self.request_id = request_id
        self.retry_after = retry_after  # in seconds
        super().__init__(f"{status}: {self.detail}" + (f" (request {request_id})" if request_id else ""))

    @property
    def detail(self) -> str:
        return str(self.problem.get("detail") or self.problem.get("title") or "no reason was given")


class BadRequest(ProblemError):
    """400: the body is no JSON, or the Idempotency-Key has a wrong form."""


class Unauthorized(ProblemError):
    """401: the token is missing or unknown."""


class Forbidden(ProblemError):
    """403: the token may only read."""


class NotFound(ProblemError):
    """404: there is no such task; a finished one expires after a time."""


class MethodNotAllowed(ProblemError):
    """405: the service does not have this call."""


class RequestTimeout(ProblemError):
    """408: the request did not arrive whole in time."""


class Conflict(ProblemError):
    """409: the task's status does not allow it, another one has its unique key, or tasks of a repeated batch have
    expired.
    """

    @property
    def holder(self) -> str | None:
        """The UID of the task that has the unique key."""
        found = self.problem.get("holder")
        return None if found is None else str(found)


class TooLarge(ProblemError):
    """413, 414, 431: the body, the path or a header is too long."""


class UnsupportedMediaType(ProblemError):
    """415: the body was not sent as JSON."""


class Invalid(ProblemError):
    """422: a field is wrong."""

    first = 0  # where the batch begins in what create_many was given

    @property
    def field(self) -> str | None:
        found = self.problem.get("field")
        return None if found is None else str(found)

    @property
    def index(self) -> int | None:
        """Which of the tasks that create_many was given is wrong."""
        found = self.problem.get("index")
        return None if found is None else self.first + int(found)


class UnknownName(ProblemError):
    """421: the service does not know its name in the address; whoever runs it may add it to SANDBOX_HOSTS."""


class TooManyRequests(ProblemError):
    """429: ask less often."""


class ServiceFault(ProblemError):
    """500: a fault of the service; it stands in its log, with the request's id."""


class Unavailable(ProblemError):
    """502, 503, 504: the service cannot answer now. What was asked may have been done or not."""


BY_STATUS: Final[Mapping[int, type[ProblemError]]] = {
    400: BadRequest,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    405: MethodNotAllowed,
    408: RequestTimeout,
    409: Conflict,
    413: TooLarge,
    414: TooLarge,
    415: UnsupportedMediaType,
    421: UnknownName,
    422: Invalid,
    429: TooManyRequests,
    431: TooLarge,
    500: ServiceFault,
    502: Unavailable,
    503: Unavailable,
    504: Unavailable,
}
