"""What a fault of Redis means to the service."""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    ConnectionError,
    MasterDownError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    TimeoutError,
    TryAgainError,
)

from service.errors import StoreRefused, StoreUnavailable

NO_PASSWORD: Final = ("Authentication required", "unauthenticated ")
COMMAND: Final = re.compile("permissions to run the '([^']+)' command")


_Of = TypeVar("_Of")
_Found = TypeVar("_Found")


class Unreachable(StoreUnavailable):
    """No connection could be made, so nothing was sent."""


_REASONS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (BusyLoadingError, "is loading its data"),
    (ReadOnlyError, "is read-only"),
    (OutOfMemoryError, "is out of memory"),
    (MasterDownError, "has lost its master"),
    (ClusterDownError, "is a cluster that is down"),
    (TryAgainError, "is moving the slot"),
    (AskError, "is moving the slot"),
    (AuthenticationError, "does not accept the password in REDIS_URL"),
    (TimeoutError, "does not answer in time"),
    (ConnectionError, "cannot be reached"),
)
_REASONS_BY_CODE: Final = {
    "OOM": "is out of memory",
    "READONLY": "is read-only",
    "LOADING": "is loading its data",
    "MISCONF": "cannot write to its disk",
    "BUSY": "is busy with a script",
    "NOREPLICAS": "has too few replicas",
}


def in_each(groups: Iterable[_Of], do: Callable[[_Of], _Found]) -> Iterator[_Found]:
    """Does it for each, also after one that is away; the problem of that one is raised at the end."""
    problem: StoreUnavailable | None = None
    for group in groups:
        try:
            yield do(group)
        except StoreUnavailable as error:
            problem = error
    if problem is not None:
        raise problem


def to_each(groups: Iterable[_Of], do: Callable[[_Of], object]) -> None:
    """The same, for what it does and not for what it finds."""
    for _ in in_each(groups, do):
        pass


def unavailable(error: Exception) -> Exception:
    """What a fault of Redis means to the service; an error of our own making stays what it is."""
    if isinstance(error, StoreUnavailable):
        return error
    text = str(error)
    if any(word in text for word in NO_PASSWORD):
        return _chained("Redis wants a password, and REDIS_URL has none: write :PASSWORD@ before its host", error)
    for kind, reason in _REASONS:
        if isinstance(error, kind):
            return _chained(f"Redis {reason}", error)
    for code, reason in _REASONS_BY_CODE.items():
        if text.startswith(code) or f"-{code} " in text:
            return _chained(f"Redis {reason}", error)
    if isinstance(error, OSError):
        return _chained("Redis cannot be reached", error)
    if isinstance(error, RedisError):
        refusal = StoreRefused(text)
        refusal.__cause__ = error
        return refusal
    return error


def unreachable(error: Exception, address: str) -> Unreachable:
    """The same of a connection that could not be made, with where Redis was looked for, and why it failed."""
    reason = error.__context__ if isinstance(error.__context__, OSError) else error
    text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
    return Unreachable(str(unavailable(error)), f"{address}: {text}")


def missing_right(error: StoreRefused) -> str | None:
    """Which right the user in REDIS_URL lacks, if that is why Redis refused."""
    if not isinstance(error.__cause__, NoPermissionError):
        return None
    command = COMMAND.search(str(error))
    missing = f"run {command[1].upper()}" if command else "write all keys (~*)"
    return f"the user of Redis may not {missing}; docs/settings.md lists the rights that it needs"


def _chained(message: str, cause: Exception) -> StoreUnavailable:
    failure = StoreUnavailable(message)
    failure.__cause__ = cause
    return failure
