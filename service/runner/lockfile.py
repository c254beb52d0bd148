"""A runner's proof of life, and what it was doing when it died.

Each runner holds a lock on a file of its own in the state folder for as long as it lives; the kernel
frees the lock at its death, however it comes. In the file stands, per lane, the token of the claim
whose handler is executing, written through a memory map: it outlives a kill -9, and costs no system
call. So a neighbour on the same host knows at once that a runner is dead, and which task to blame.
Behind these records the alarm writes the stacks, if it has to end the process.
"""

import fcntl
import mmap
import os
import secrets
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from service.runner.upkeep import Upkeep

HEAD: Final = struct.Struct("=Qd")  # number of lanes; when the upkeep thread was last alive
RECORD: Final = struct.Struct("=48sd")  # token of the claim that is executing; by when it has to end
NOBODY: Final = b"\0" * RECORD.size
NEVER: Final = float("inf")
TOLD: Final = -1.0  # instead of the time: it has said itself why it ends
HELD_UP_SECONDS: Final = 1.0


class Remains(NamedTuple):
    """What a dead runner left: the claims that were executing, by when each had to end, the alarm's stacks."""

    consumer: str
    path: Path
    deadlines: dict[str, float]
    stacks: str = ""
    told: bool = True

    def blames(self, token: str) -> bool:
        return token in self.deadlines

    def overdue(self, token: str) -> bool:
        """Did it die by its own alarm, and because of this task?"""
        return bool(self.stacks) and self.deadlines[token] == min(self.deadlines.values())


class Presence:
    def __init__(self, folder: Path, lanes: int) -> None:
        self.consumer = f"{_here()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._folder = folder
        self._lanes = lanes
        self._told = False
        self._path = folder / self.consumer
        folder.mkdir(parents=True, exist_ok=True)
        self._file = open(folder / f".{self.consumer}", "w+b")  # noqa: SIM115 - held for life
        self._file.write(HEAD.pack(lanes, time.monotonic()) + NOBODY * lanes)
        self._file.flush()
        self._map = mmap.mmap(self._file.fileno(), 0)
        fcntl.flock(self._file, fcntl.LOCK_EX)
        os.register_at_fork(after_in_child=self._let_go)  # a handler's fork must not keep the lock
        os.rename(self._file.name, self._path)  # seen by others only when it is locked

    def register(self, upkeep: Upkeep) -> None:
        upkeep.every(0.0, self.beat)

    def mark(self, lane: int, token: bytes, deadline: float = NEVER) -> None:
        """This claim's handler starts now."""
        if not self._told:
            RECORD.pack_into(self._map, HEAD.size + lane * RECORD.size, token, deadline)

    def clear(self, lane: int) -> None:
        at = HEAD.size + lane * RECORD.size
        self._map[at : at + RECORD.size] = NOBODY

    def beat(self) -> None:
        """The upkeep thread is alive, and renews the leases."""
        if not self._told:
            HEAD.pack_into(self._map, 0, self._lanes, time.monotonic())

    def tell(self) -> None:
        """This process ends on purpose, but leaves something to others: what starts from now on is not to blame."""
        self._told = True
        HEAD.pack_into(self._map, 0, self._lanes, TOLD)

    @property
    def stacks(self) -> Any:
        """The file, for the alarm: it writes behind the records."""
        return self._file

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
                yield _remains(path, content)

    def held_up_neighbours(self) -> Iterator[str]:
        """Runners that live, but whose threads a handler holds up in C code."""
        for path in self._folder.glob(f"{_here()}:*"):
            if path != self._path and _is_held_up(path):
                yield path.name

    def left_by_earlier_boots(self) -> Iterator[Remains]:
        """Files of runners from before this host was started again; what they held comes back by its lease."""
        here = _here()
        for path in self._folder.glob(f"{here.rpartition(':')[0]}:*"):
            if not path.name.startswith(f"{here}:") and _content_if_dead(path) is not None:
                yield Remains(path.name, path, {})

    def clear_away(self, *, older_than_seconds: float) -> None:
        """Files of hosts that never came back, and what a start that was cut short has left."""
        for path in self._folder.iterdir():
            with suppress(FileNotFoundError):  # another runner was quicker
                is_old = time.time() - path.stat().st_mtime > older_than_seconds
                if is_old and not path.name.startswith(f"{_here()}:") and _content_if_dead(path) is not None:
                    path.unlink()


def living(folder: Path) -> int:
    """How many runners of this host are alive."""
    return sum(map(_is_locked, folder.glob(f"{_here()}:*")))


def _is_locked(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass  # just removed
    return False


def _content_if_dead(path: Path) -> bytes | None:
    """The file's content if nobody holds its lock."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return file.read()
    except OSError:
        return None  # held, or just removed


def _is_held_up(path: Path) -> bool:
    try:
        _, beat = HEAD.unpack_from(path.read_bytes())
    except (OSError, struct.error):
        return False
    return time.monotonic() - beat > HELD_UP_SECONDS and _content_if_dead(path) is None


def _remains(path: Path, content: bytes) -> Remains:
    lanes, beat = HEAD.unpack_from(content.ljust(HEAD.size, b"\0"))
    end = HEAD.size + lanes * RECORD.size
    deadlines = {
        token.rstrip(b"\0").decode(): deadline
        for token, deadline in RECORD.iter_unpack(content[HEAD.size : end].ljust(end - HEAD.size, b"\0"))
        if token.strip(b"\0")
    }
    return Remains(path.name, path, deadlines, content[end:].decode(errors="replace"), beat == TOLD)


def _here() -> str:
    """This host since it was started."""
    host = "".join(char if char.isalnum() or char in "-." else "-" for char in socket.gethostname())
    return f"{host[:64]}:{_boot()}"


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    except OSError:
        return f"{int(time.time() - time.monotonic()) // 60:x}"
