"""Task types that write down each run: what began, how it ended, in which process, and when."""

import os
import time
from typing import Any

from service.tasks.declare import task


def _write(path: str, what: str, context: Any) -> None:
    line = f"{what} {context.uid} {context.attempt} {os.getpid()} {time.monotonic():.6f}\n".encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


@task("work")
def work(context: Any, path: str, seconds: float = 0.0, failures: int = 0) -> list[int]:
    """Its result names the run that it is from."""
    _write(path, "begun", context)
    time.sleep(seconds)
    if context.attempt <= failures:
        _write(path, "failed", context)
        raise RuntimeError("on purpose")
    _write(path, "ended", context)
    return [context.attempt, os.getpid()]
