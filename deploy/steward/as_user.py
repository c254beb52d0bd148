"""A call in a process that is a workspace's user: what it does and reads is that user's affair."""

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import time
from collections.abc import Callable
from typing import Any, Final, TypeVar

from steward.errors import Refused

AS_USER_SECONDS: Final = 30
AS_USER_BYTES: Final = 256 << 20  # of its memory
FOUND_BYTES: Final = 1_000_000  # of what it returns: less than the service reads of an answer
PR_SET_PDEATHSIG: Final = 1
T = TypeVar("T")


def as_user(uid: int, call: Callable[[], T]) -> T:
    """Calls it in a process that is this user, and returns what can be written as JSON. What it reads is a stranger's:
    it has little time and memory.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        answer: dict[str, Any] = {}
        try:
            resource.setrlimit(resource.RLIMIT_AS, (AS_USER_BYTES, AS_USER_BYTES))
            become(uid)
            answer = {"value": call()}
        except MemoryError:
            answer = {"error": f"what is there takes more than {AS_USER_BYTES >> 20} MiB of memory to read"}
        except BaseException as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        with contextlib.suppress(BaseException), os.fdopen(writing, "w") as file:
            json.dump(answer, file)
        os._exit(0)
    os.close(writing)
    text = _said(reading, time.monotonic() + AS_USER_SECONDS)
    os.close(reading)
    os.kill(child, signal.SIGKILL)  # it has said all, or gets no more time: who is the same user may have stopped it
    os.waitpid(child, 0)
    if text is None:
        raise Refused("it took too long")
    if len(text) > FOUND_BYTES:
        raise Refused(f"what is there is more than {FOUND_BYTES} bytes, and is not read")
    answer = json.loads(text or '{"error": "it was ended"}')
    if "error" in answer:
        raise Refused(answer["error"])
    value: T = answer["value"]
    return value


def _said(reading: int, until: float) -> bytes | None:
    """All of it, or a byte more than may be; nothing, if there is no end of it in time."""
    text = b""
    while len(text) <= FOUND_BYTES:
        if not select.select([reading], [], [], max(0, until - time.monotonic()))[0]:
            return None
        if not (chunk := os.read(reading, FOUND_BYTES + 1 - len(text))):
            break
        text += chunk
    return text


def become(uid: int) -> None:
    die_with_parent()
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    die_with_parent()  # the kernel forgets it when the user changes
    os.umask(0o007)


def die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
