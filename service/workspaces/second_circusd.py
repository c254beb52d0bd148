"""The circusd of the workspaces: a second one, so that deploys and restarts of the service leave them alone.

    python -m service.workspaces.second_circusd FILE

It is circus's own program, but for one thing: a watcher `on_demand` is started by a connection to its own socket.
With stock circus, one that waits at any socket starts every watcher.
"""

import fcntl
import select
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

from circus import circusd
from circus.arbiter import Arbiter
from circus.util import synchronized
from tornado import gen

ALIVE: Final = "alive.lock"
READABLE: Final = select.POLLIN


@synchronized("manage_watchers")  # type: ignore[untyped-decorator]
@gen.coroutine
def manage_watchers(arbiter: Any) -> Generator[Any, Any, None]:
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


def main() -> None:
    """The lock says that it lives: circus's children do not get it."""
    alive = open(Path(sys.argv[1]).with_name(ALIVE), "ab")  # noqa: SIM115 - held for life
    try:
        fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit("another circusd of these workspaces lives")
    Arbiter.manage_watchers = manage_watchers
    circusd.main()


if __name__ == "__main__":
    main()
