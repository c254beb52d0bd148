"""How many clients a process may hold. Each has a file descriptor, and needs another one while it asks Redis."""

import resource
from typing import Final

MOST: Final = 65_536
OWN: Final = 63  # descriptors for logs, the listening socket, the event loop, metrics


def raise_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _counted(soft) < _counted(hard):
        resource.setrlimit(resource.RLIMIT_NOFILE, (_counted(hard), hard))


def clients(partitions: int) -> int:
    """Each partition may have a connection that listens, for all clients that wait for a task in it."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, (_counted(soft) - OWN - partitions) // 2)


def _counted(limit: int) -> int:
    return MOST if limit == resource.RLIM_INFINITY else min(limit, MOST)
