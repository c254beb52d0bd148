"""Hooks of circus.ini's watchers. Circus calls them in its loop: they must be quick."""

import os
import signal
from contextlib import suppress
from typing import Any

from circus.util import parse_env_dict

from service.supervise.start import orphans


def before_start(watcher: Any, **_: Any) -> bool:
    """Gives the processes the environment as it is: circus replaces a $NAME inside a value, as in a password."""
    for name, value in os.environ.items():
        if watcher.env.get(name) == parse_env_dict({name: value})[name]:
            watcher.env[name] = value
    orphans.mark(watcher)
    return True


def before_reap(process_pid: int, **_: Any) -> None:
    """Kills what a dead runner has started: it must not go on beside the next attempt of the task. The programs of
    `context.run` have groups of their own, in its session.
    """
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process_pid, signal.SIGKILL)
    for pid in orphans.of_session(process_pid):
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
