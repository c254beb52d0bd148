"""Waiting for the end of a task, in rounds: in each the service holds its answer back until the task has finished,
or cannot be read.

It may answer early, because too many wait or because it stops; then the next round begins after a pause.
"""

import math
import time
from typing import Any, Final

from service.cli.caller import TIMED_OUT, CallFailed, Service, part

ROUND_SECONDS: Final = 30  # shorter than the patience of most proxies
PATIENCE_SECONDS: Final = 60.0  # with a service that is away meanwhile
FIRST_PAUSE_SECONDS: Final = 0.2
LONGEST_PAUSE_SECONDS: Final = 5.0
ENDS: Final = ("succeeded", "failed", "cancelled", "unreadable")  # nothing more comes of one that cannot be read


def until_ended(service: Service, uid: str, timeout_seconds: float | None) -> dict[str, Any]:
    until = math.inf if timeout_seconds is None else time.monotonic() + timeout_seconds
    pause = FIRST_PAUSE_SECONDS
    while True:
        began = time.monotonic()
        seconds = math.ceil(min(ROUND_SECONDS, max(0.0, until - began)))
        task: dict[str, Any] = service.get(f"/tasks/{part(uid)}", wait_seconds=seconds)
        if task["status"] in ENDS:
            return task
        if time.monotonic() >= until:
            raise CallFailed(f"the task {uid} is {task['status']} after {timeout_seconds:g} s; it goes on.", TIMED_OUT)
        if time.monotonic() - began < seconds / 2:
            time.sleep(min(pause, max(0.0, until - time.monotonic())))
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
