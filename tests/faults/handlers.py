"""Task types that write down each run: what began, how it ended, in which process, and when."""

import ctypes
import os
import re
import threading
import time
from typing import Any, Final

from service.errors import Cancelled, Stopping
from service.tasks.declare import task

C: Final = ctypes.PyDLL(None)  # its calls hold the interpreter


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


@task("limited", limits=("soak",))
def limited(context: Any, path: str, customer: str, seconds: float) -> list[int]:
    """Of a customer, only so many at once."""
    return work(context, path, seconds)  # type: ignore[no-any-return]


@task("hang")
def hang(context: Any, path: str, way: str) -> None:
    """Never ends: `regex` lets signals in, `lock` holds the interpreter for good. It is cancelled, or times out."""
    _write(path, "begun", context)
    _write(path, "held", context)
    if way == "regex":
        re.match(r"(a+)+$", "a" * 64 + "b")
    else:
        lock = ctypes.create_string_buffer(64)  # a pthread_mutex_t, which is locked twice
        C.pthread_mutex_lock(lock)
        C.pthread_mutex_lock(lock)


@task("thread")
def thread(context: Any, path: str) -> list[int]:
    """Leaves a thread that goes on."""
    threading.Thread(target=time.sleep, args=(3600,)).start()
    return work(context, path)  # type: ignore[no-any-return]


@task("raise")
def raises(context: Any, path: str, what: str) -> list[int]:
    """Raises, in its first attempt, what only a runner may raise."""
    if context.attempt > 1:
        return work(context, path)  # type: ignore[no-any-return]
    _write(path, "begun", context)
    _write(path, "failed", context)
    raise {"Cancelled": Cancelled, "Stopping": Stopping}[what]
