"""A module of task types that replaces Python's threads by greenlets."""

import signal
import time
from typing import Any

from gevent import monkey

from service.tasks.declare import task

monkey.patch_all()


@task("deaf")
def deaf(context: Any) -> None:
    while True:
        time.sleep(0.05)


@task("careless")
def careless(context: Any) -> bool:
    """Leaves TERM at its default. Returns whether another attempt's default was still there."""
    time.sleep(0.01)
    return signal.signal(signal.SIGTERM, signal.SIG_DFL) is signal.SIG_DFL
