"""A runner's proof of life, and what it is doing: neighbours read it when it has died, or is held up.

Each runner holds a lock on a file of its own in the state folder for as long as it lives; the kernel
frees the lock at its death, however it comes. In the file stands, per lane, the token of the claim
whose handler is executing, written through a memory map: it outlives a kill -9, and costs no system
call. So a neighbour on the same host knows at once that a runner is dead, and which task to blame.
Behind these records the alarm writes the stacks, if it has to end the process.

At the head of the file stands when the runner last got the interpreter. If that is too long ago, a handler holds it up.
"""

import fcntl
import logging
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

from service.errors import SandboxError

HEAD: Final = struct.Struct("=Qd")  # number of lanes; when a thread beside the lanes last ran
TIME: Final = struct.Struct("=d")
TIME_AT: Final = slice(HEAD.size - TIME.size, HEAD.size)
RECORD: Final = struct.Struct("=48sd")  # token of the claim that is executing; by when it has to end
NOBODY: Final = b"\0" * RECORD.size
ENDED: Final = b"~"  # before a token: its handler has ended, like all that its lane began before
NEVER: Final = float("inf")
TOLD: Final = -1.0  # instead of the time: it ends on purpose, and has logged why
HELD_UP_SECONDS: Final = 2.0
UID_LENGTH: Final = 16  # of a UID in a token: its beginning is random
ALL_HELD_UP: Final = (
    "no runner of this host gets on: handlers hold up each of the {}. Nothing starts, and cancelling ends nothing; "
    "a task's timeout ends its process, and so does a restart"
)

log = logging.getLogger("sandbox.runner")


class Remains(NamedTuple):
    """What the file of a runner says that has died, or is held up: the claims that it was executing, by when each had
    to end, the alarm's stacks, since when it does not get on.
    """

    consumer: str
    path: Path
    deadlines: dict[str, float]
    stacks: str = ""
    told: bool = True
    since: float = 0.0
    ended: tuple[str, ...] = ()  # the last claim of each lane that executes nothing

    @property
    def is_held_up(self) -> bool:
        return self.is_late and not self.told and _content_if_dead(self.path) is None

    @property
    def is_late(self) -> bool:
        return time.monotonic() - self.since > HELD_UP_SECONDS

    @property
    def pid(self) -> int:
        return int(self.consumer.split(":")[2])

    def blames(self, token: str) -> bool:
        """Is, or was, its handler executing?"""
        return token in self.deadlines

    def has_ended(self, token: str) -> bool:
        """A lane runs its claims in the order of their numbers: has its lane ended it, or begun a later one?"""
        lane, number = _place(token)
        begun_later = any(lane == other and number < later for other, later in map(_place, self.deadlines))
        return begun_later or any(lane == other and number <= last for other, last in map(_place, self.ended))

    def overdue(self, token: str) -> bool:
        """Did an alarm end the process, because of this task?"""
        return bool(self.stacks) and self.deadlines[token] == min(self.deadlines.values()) < NEVER


def token(consumer: str, lane: int, number: int, uid: str) -> str:
    """A claim's: no other claim has it. It tells neighbours the lane, the order of claims, and the task."""
    return f"{consumer.rpartition(':')[2]}-{lane}-{number:x}-{uid[:UID_LENGTH]}"


def is_of(token: str, uid: str) -> bool:
    """Is it of a claim of this task?"""
    return token.split("-", 3)[-1] == uid[:UID_LENGTH]


def _place(token: str) -> tuple[list[str], int]:
    try:
        runner, lane, number, *_ = token.split("-")
        return [runner, lane], int(number, 16)
    except ValueError:
        return [token], 0


class Presence:
    def __init__(self, folder: Path, lanes: int, turns: Path | None = None) -> None:
        """The runners take turns by files in the folder `turns`."""
        self.consumer = f"{_here()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._folder = folder
        self._turns = turns
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

    def mark(self, lane: int, token: bytes, deadline: float = NEVER) -> None:
        """This claim's handler starts now."""
        if not self._told:
            self._write(lane, RECORD.pack(token, deadline))

    def clear(self, lane: int) -> None:
        """It has ended, and is no longer to blame. Neighbours still see up to where this lane has come."""
        at = HEAD.size + lane * RECORD.size
        token, _ = RECORD.unpack_from(self._map, at)
        if token.strip(b"\0"):
            self._write(lane, RECORD.pack(ENDED + token.lstrip(ENDED), NEVER))

    def _write(self, lane: int, record: bytes) -> None:
        """By one copy. `pack_into` writes zeros first, and a neighbour may read them."""
        at = HEAD.size + lane * RECORD.size
        self._map[at : at + RECORD.size] = record

    def beat(self) -> None:
        """A thread beside the lanes has got the interpreter."""
        with suppress(ValueError):  # this runner has just left
            if not self._told:
                self._map[TIME_AT] = TIME.pack(time.monotonic())

    def tell(self) -> None:
        """This process ends on purpose, but leaves something to others: what starts from now on is not to blame."""
        self._told = True
        self._map[TIME_AT] = TIME.pack(TOLD)

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

    def held_up_neighbours(self) -> Iterator[Remains]:
        """Runners that live, but do not get the interpreter: a handler holds it in C code."""
        for path in self._folder.glob(f"{_here()}:*"):
            if path != self._path and (found := _read(path)) is not None and found.is_held_up:
                yield found

    def remains(self, consumer: str) -> Remains | None:
        """What the file of a runner says, dead or alive. None if it has left, or was never here."""
        return _read(self._folder / consumer) if consumer.startswith(f"{_here()}:") else None

    def end(self, neighbour: Remains, token: str, signum: int) -> None:
        """Ends a neighbour that is held up, because of this claim. Its other claims are not to blame."""
        now = self.remains(neighbour.consumer)
        if now is None or not now.is_held_up or not now.blames(token):
            return
        with now.path.open("r+b") as file:
            lanes, _ = HEAD.unpack(file.read(HEAD.size))
            for at in range(HEAD.size, HEAD.size + lanes * RECORD.size, RECORD.size):
                name, _ = RECORD.unpack(os.pread(file.fileno(), RECORD.size, at))
                if name.rstrip(b"\0") != token.encode():
                    os.pwrite(file.fileno(), NOBODY, at)
        with suppress(ProcessLookupError):
            os.kill(now.pid, signum)

    def is_turn(self, duty: str, seconds: float) -> bool:
        """Has no runner of this host done its duty for so long? One is enough for all of them."""
        if self._turns is None:
            return True
        last = self._turns / f"runners.{duty}"
        try:
            with suppress(FileNotFoundError):
                if abs(time.time() - last.stat().st_mtime) < seconds:
                    return False
            last.touch()
        except OSError:
            pass  # without the folder, or with a full disk, each one does it
        return True

    def pass_turn(self, duty: str) -> None:
        """There is more to do: whoever comes next may do it."""
        if self._turns is not None:
            with suppress(OSError):
                os.utime(self._turns / f"runners.{duty}", (0, 0))

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
    """How many runners of this host get on. Where a handler holds up each of them, nobody is left to watch them."""
    files = folder.glob(f"{_here()}:*")
    alive = [found for path in files if (found := _read(path)) and not found.told and _content_if_dead(path) is None]
    at_work = sum(not found.is_late for found in alive)
    if alive and not at_work:
        error = SandboxError(ALL_HELD_UP.format(len(alive)))
        log.error("%s", error, extra={"once": "all held up"})
        raise error
    return at_work


def _content_if_dead(path: Path) -> bytes | None:
    """The file's content if nobody holds its lock."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return file.read()
    except OSError:
        return None  # held, or just removed


def _read(path: Path) -> Remains | None:
    try:
        return _remains(path, path.read_bytes())
    except OSError:
        return None


def _remains(path: Path, content: bytes) -> Remains:
    lanes, beat = HEAD.unpack_from(content.ljust(HEAD.size, b"\0"))
    end = HEAD.size + lanes * RECORD.size
    records = {
        token.rstrip(b"\0"): deadline
        for token, deadline in RECORD.iter_unpack(content[HEAD.size : end].ljust(end - HEAD.size, b"\0"))
        if token.strip(b"\0")
    }
    deadlines = {token.decode(): deadline for token, deadline in records.items() if not token.startswith(ENDED)}
    ended = tuple(token.removeprefix(ENDED).decode() for token in records if token.startswith(ENDED))
    stacks = content[end:].decode(errors="replace")
    return Remains(path.name, path, deadlines, stacks, beat == TOLD, beat, ended)


def _here() -> str:
    """This host since it was started."""
    host = "".join(char if char.isalnum() or char in "-." else "-" for char in socket.gethostname())
    return f"{host[:64]}:{_boot()}"


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text()[:8]
    except OSError:
        return f"{int(time.time() - time.monotonic()) // 60:x}"
