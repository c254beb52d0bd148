"""The circusd of the workspaces: a second one, so that deploys and restarts of the service leave them alone.

    python -m service.workspaces.second_circusd FILE

It is circus's own program, but for two things. A watcher `on_demand` is started by a connection to its own socket:
with stock circus, one that waits at any socket starts every watcher. And it goes on while the clock is put back.
"""

import fcntl
import select
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

from circus import circusd
from circus.arbiter import Arbiter
from circus.util import synchronized
from tornado import gen
from tornado.ioloop import IOLoop

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
    setattr(IOLoop, "time", lambda loop: time.monotonic())  # noqa: B010 - nobody can put this clock back
    circusd.main()


if __name__ == "__main__":
    main()
