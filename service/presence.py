"""A runner's proof of life, and what it was doing when it died.

Each runner holds a lock on a file of its own in the state folder for as long as it lives; the kernel
frees the lock at its death, however it comes. In the file stands, per lane, the token of the claim
whose handler is executing, written through a memory map: it outlives a kill -9, and costs no system
call. So a neighbour on the same host knows at once that a runner is dead, and which task to blame.
"""

import fcntl
import mmap
import os
import secrets
import socket
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

RECORD: Final = struct.Struct("=48sd")
NOBODY: Final = b"\0" * RECORD.size
NEVER: Final = float("inf")


class Remains(NamedTuple):
    """What a dead runner left: the claims that were executing, and by when each had to end."""

    consumer: str
    path: Path
    deadlines: dict[str, float]

    def blames(self, token: str) -> bool:
        return token in self.deadlines

    def overdue(self, token: str) -> bool:
        """Did it die by its own alarm, because the task would not end?"""
        return self.deadlines[token] <= time.monotonic()


class Presence:
    def __init__(self, folder: Path, lanes: int) -> None:
        self.consumer = f"{_here()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._folder = folder
        self._path = folder / self.consumer
        folder.mkdir(parents=True, exist_ok=True)
        self._file = open(folder / f".{self.consumer}", "w+b")  # noqa: SIM115 - held for life
        self._file.write(NOBODY * lanes)
        self._file.flush()
        self._map = mmap.mmap(self._file.fileno(), 0)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        os.register_at_fork(after_in_child=self._let_go)  # a handler's fork must not keep the lock
        os.rename(self._file.name, self._path)  # seen by others only when it is locked

    def mark(self, lane: int, token: bytes, deadline: float = NEVER) -> None:
        """This claim's handler starts now."""
        RECORD.pack_into(self._map, lane * RECORD.size, token, deadline)

    def clear(self, lane: int) -> None:
        at = lane * RECORD.size
        self._map[at : at + RECORD.size] = NOBODY

    def leave(self) -> None:
        self._path.unlink(missing_ok=True)
        self._let_go()

    def _let_go(self) -> None:
        self._map.close()  # it keeps the file open, too
        self._file.close()

    def dead_neighbours(self) -> Iterator[Remains]:
        """Runners of this host and boot that have died without leaving."""
        for path in sorted(self._folder.glob(f"{_here()}:*")):
            if path != self._path and (content := _content_if_dead(path)) is not None:
                yield Remains(path.name, path, dict(_records(content)))

    def living_neighbours(self) -> Iterator[str]:
        for path in self._folder.glob(f"{_here()}:*"):
            if path != self._path and _content_if_dead(path) is None:
                yield path.name

    def left_by_earlier_boots(self) -> Iterator[Remains]:
        """Files of runners from before this host was started again; what they held comes back by its lease."""
        here = _here()
        for path in self._folder.glob(f"{here.rpartition(':')[0]}:*"):
            if not path.name.startswith(f"{here}:") and _content_if_dead(path) is not None:
                yield Remains(path.name, path, {})


def _content_if_dead(path: Path) -> bytes | None:
    """The file's content if nobody holds its lock."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return file.read()
    except OSError:
        return None  # held, or just removed


def _records(content: bytes) -> Iterator[tuple[str, float]]:
    for token, deadline in RECORD.iter_unpack(content):
        if token := token.rstrip(b"\0"):
            yield token.decode(), deadline


def _here() -> str:
    """This host since it was started."""
    host = "".join(char if char.isalnum() or char in "-." else "-" for char in socket.gethostname())
    return f"{host[:64]}:{_boot()}"


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    except OSError:
        return f"{int(time.time() - time.monotonic()) // 60:x}"
