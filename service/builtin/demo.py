"""Task types to try the service with. By default they are on if it listens on loopback only."""

import time
from typing import Any

from service import Context, task


@task("echo")
def echo(context: Context, message: Any = "") -> Any:
    """Returns its message."""
    return message


@task("sleep")
def sleep(context: Context, seconds: float = 1.0) -> float:
    """Takes so many seconds."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, 0.1))  # in short naps: a thread can only be interrupted between two
    return seconds


@task("fail")
def fail(context: Context, message: str = "this task fails") -> None:
    """Fails at every attempt."""
    raise RuntimeError(message)


@task("flaky")
def flaky(context: Context, failures: int = 1) -> int:
    """Fails so many times before it succeeds; the result is the number of the attempt."""
    if context.attempt <= failures:
        raise RuntimeError(f"attempt {context.attempt} of {failures} that fail")
    return context.attempt
