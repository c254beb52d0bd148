"""Which errors are expected, and are not reported. Each predicate names one reason."""

from service.errors import (
    Cancelled,
    InvalidTask,
    InvalidTransition,
    Reject,
    Retry,
    SandboxError,
    Stopping,
    StoreUnavailable,
)


def is_refused_request(error: BaseException) -> bool:
    """A client's mistake (4xx), which the client was told."""
    if not (isinstance(error, SandboxError) or type(error).__module__ == "werkzeug.exceptions"):
        return False  # of a team's own error nothing is asked: that may run any code
    status = getattr(error, "status", None) or getattr(error, "code", None)
    return isinstance(error, InvalidTask | InvalidTransition) or (isinstance(status, int) and status < 500)


def is_wish_of_handler(error: BaseException) -> bool:
    """A handler asked for another attempt, or for none."""
    return isinstance(error, Reject | Retry)


def is_interruption(error: BaseException) -> bool:
    """The task was cancelled, or the runner stops."""
    return isinstance(error, Cancelled | Stopping)


def is_outage_of_redis(error: BaseException) -> bool:
    """Every process would report it at once. The log and the health check show it."""
    return isinstance(error, StoreUnavailable)


def is_end_of_process(error: BaseException) -> bool:
    """Outside a handler, these stop a process."""
    return isinstance(error, KeyboardInterrupt | SystemExit | GeneratorExit)


def is_expected(error: BaseException) -> bool:
    return is_refused_request(error) or is_wish_of_handler(error) or is_interruption(error) or is_outage_of_redis(error)
