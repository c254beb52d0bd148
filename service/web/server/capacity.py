"""How many clients a process may hold. Each has a file descriptor, and needs another one while it asks Redis."""

import resource
from typing import Final

MOST: Final = 65_536
BODY_LIMIT: Final = 256 * 1024  # bytes of a request's body
OWN: Final = 64  # descriptors for logs, the listening socket, the event loop, metrics


def raise_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if _counted(soft) < _counted(hard):
        resource.setrlimit(resource.RLIMIT_NOFILE, (_counted(hard), hard))


def clients() -> int:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(1, (_counted(soft) - OWN) // 2)


def _counted(limit: int) -> int:
    return MOST if limit == resource.RLIM_INFINITY else min(limit, MOST)
