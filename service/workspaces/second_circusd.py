"""The circusd of the workspaces: a second one, so that deploys and restarts of the service leave them alone.

    python -m service.workspaces.second_circusd FILE

It is circus's own program, but for four things. A watcher `on_demand` is started by a connection to its own socket:
with stock circus, one that waits at any socket starts every watcher. A port that somebody else has taken meanwhile is
missed by its own workspace alone, and so is the folder of its log: stock circus would not start, or change nothing. And
it goes on while the clock is put back.
"""

import fcntl
import os
import select
import sys
import time
from collections.abc import Container, Generator
from functools import partial
from pathlib import Path
from typing import Any, Final

import circus.arbiter
from circus import circusd, logger
from circus.arbiter import Arbiter
from circus.config import get_config
from circus.stream.file_stream import _FileStreamBase
from circus.util import synchronized
from tornado import gen
from tornado.ioloop import IOLoop

from service.workspaces import ports

ALIVE: Final = "alive.lock"
LOCK_SECONDS: Final = 2.0  # somebody may look at it just now
READABLE: Final = select.POLLIN


def manage_watchers(arbiter: Any) -> Any:
    """Each second, unless a command runs: circus's own would then raise an error into its log."""
    if arbiter._exclusive_running_command is None and not arbiter._restarting:
        return _manage_watchers(arbiter)
    return None


@synchronized("manage_watchers")  # type: ignore[untyped-decorator]
@gen.coroutine
def _manage_watchers(arbiter: Any) -> Generator[Any, Any, None]:
    if arbiter._stopping:
        return
    arbiter.reap_processes()
    yield [watcher.manage_processes() for watcher in arbiter.iter_watchers()]
    for watcher in arbiter.iter_watchers():
        if watcher.on_demand and watcher.is_stopped() and _is_wanted(arbiter.sockets.get(watcher.name)):
            arbiter.socket_event = True
            try:
                yield watcher._start()
            finally:
                arbiter.socket_event = False


def _is_wanted(listener: Any) -> bool:
    if listener is None:
        return False
    poll = select.poll()
    poll.register(listener.fileno(), READABLE)
    return bool(poll.poll(0))


def reload_from_config(arbiter: Any) -> Any:
    circus.arbiter.get_config = partial(what_can_listen, arbiter.sockets)
    return _reload_from_config(arbiter)


_reload_from_config: Final = Arbiter.reload_from_config


def what_can_listen(held: Container[str], file: str) -> Any:
    """The configuration, without the workspaces whose ports somebody else has. `held`: the sockets that listen here."""
    found = get_config(file)
    taken = {each["name"] for each in found["sockets"] if each["name"] not in held and _is_taken(each)}
    for name in sorted(taken):
        logger.error("%s is left out: somebody else listens at its port", name)
    for kind in ("sockets", "watchers"):
        found[kind] = [each for each in found[kind] if each["name"] not in taken]
    return found


def _is_taken(listener: Any) -> bool:
    return "port" in listener and not ports.is_free(int(listener["port"]), listener["host"])


def open_log(stream: Any) -> Any:
    """Where it cannot be written, what is printed is lost, and nothing else."""
    try:
        return open(stream._filename, "a+")
    except OSError:
        return open(os.devnull, "a+")


def _locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def main() -> None:
    """The lock says that it lives: circus's children do not get it."""
    alive = open(Path(sys.argv[1]).with_name(ALIVE), "ab")  # noqa: SIM115 - held for life
    until = time.monotonic() + LOCK_SECONDS
    while not _locked(alive.fileno()):
        if time.monotonic() > until:
            sys.exit("another circusd of these workspaces lives")
        time.sleep(0.01)
    Arbiter.manage_watchers = manage_watchers
    Arbiter.reload_from_config = reload_from_config
    circus.arbiter.get_config = partial(what_can_listen, ())
    _FileStreamBase._open = open_log
    setattr(IOLoop, "time", lambda loop: time.monotonic())  # noqa: B010 - nobody can put this clock back
    circusd.main()


if __name__ == "__main__":
    main()
