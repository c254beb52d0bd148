"""A file to which several processes append whole lines. No process collects them.

A line is one `write` to a file opened for appending. Whoever finds the file too large moves it aside, under a lock.
The others notice within a second: when they write, or when what ticks in their process anyway calls `caretaker.look`.
"""

import fcntl
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

LARGEST_BYTES: Final = 64 * 1024 * 1024
KEPT_FILES: Final = 5
LOOK_SECONDS: Final = 1.0
WAIT_SECONDS: Final = 1.0
TRY_SECONDS: Final = 0.01
LONGEST_TEXT: Final = 32 * 1024  # of a message, or a traceback, in a line
_sleep: Final = (
    time.sleep
)  # gevent's would let other clients run, and they would wait for ever for the lock of the file


class LogFile:
    def __init__(
        self,
        path: Path,
        largest_bytes: int = LARGEST_BYTES,
        *,
        stands_for: tuple[int, ...] = (),
    ) -> None:
        """`stands_for`: descriptors that lead to this file too, such as those of standard output and error."""
        self._stands_for = stands_for
        self._path = path
        self._largest = largest_bytes
        self._descriptor = -1
        self._opened: tuple[int, int] | None = None  # what the descriptor led to
        self._looked = -LOOK_SECONDS
        self._torn = False
        self._aside: dict[int, int] = {}  # how large the files were that were moved aside, by their inodes
        self._unlock()
        os.register_at_fork(after_in_child=self._unlock)

    def _unlock(self) -> None:
        """Makes a new lock, also in a forked child: there, a thread that held the old one is gone.

        The handler of a signal may log, and interrupt its own thread in `look`: circusd's does.
        """
        self._lock = threading.RLock()

    def write(self, lines: bytes) -> None:
        """Appends whole lines. If the disk is full or the folder is gone, they are lost, and nothing is raised."""
        try:
            if time.monotonic() - self._looked > LOOK_SECONDS or not self._is_ours():
                self.look()
            if self._torn:
                lines = b"\n" + lines
            self._torn = os.write(self._descriptor, lines) < len(lines)  # the disk has become full
        except OSError:
            self._looked = -LOOK_SECONDS

    def look(self) -> None:
        """Keeps the file small, and opens it anew if somebody has moved it."""
        with self._lock:
            with suppress(OSError):
                self.keep_small()
            if not self._leads_there():
                self._reopen()
            self._looked = time.monotonic()

    def keep_small(self) -> None:
        if self._is_too_large():
            self._roll()
        if self._stands_for:  # no program inherits the others
            self._empty_what_still_grows()

    def _empty_what_still_grows(self) -> None:
        """A program that a handler has started prints on into a file that was moved aside: it has inherited it."""
        before, self._aside = self._aside, {}
        for path in [Path(f"{self._path}.{number}") for number in range(1, KEPT_FILES + 1)]:
            with suppress(FileNotFoundError):
                found = path.stat()
                self._aside[found.st_ino] = found.st_size
                if found.st_size >= 2 * self._largest and found.st_size > before.get(found.st_ino, found.st_size):
                    _empty(path, found.st_ino)
                    os.write(self._descriptor, f"sandbox: {path.name} still grew after its turn: emptied\n".encode())

    @property
    def descriptor(self) -> int:
        return self._descriptor

    def _leads_there(self) -> bool:
        """The others too: somebody may have closed them, and a socket may have got the number."""
        try:
            there = self._path.stat()
            return all(os.path.samestat(os.fstat(each), there) for each in (self._descriptor, *self._stands_for))
        except OSError:
            return False

    def _is_ours(self) -> bool:
        """A handler may have closed it, and a connection to Redis may have got the number."""
        try:
            now = os.fstat(self._descriptor)
        except OSError:
            return False
        return (now.st_dev, now.st_ino) == self._opened

    def _reopen(self) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        if not self._is_ours():
            self._descriptor = descriptor
        else:
            os.dup2(descriptor, self._descriptor, inheritable=False)
            os.close(descriptor)
        opened = os.fstat(self._descriptor)
        self._opened = opened.st_dev, opened.st_ino
        for number in self._stands_for:
            os.dup2(self._descriptor, number)

    def _is_too_large(self) -> bool:
        try:
            return self._path.stat().st_size >= self._largest
        except FileNotFoundError:
            return False

    def _roll(self) -> None:
        with open(self._path.with_suffix(".lock"), "w", opener=_for_its_owner) as lock:
            _wait_for(lock.fileno())
            if not self._is_too_large():
                return  # another process was quicker
            for number in range(KEPT_FILES - 1, 0, -1):
                older = Path(f"{self._path}.{number}")
                if older.exists():
                    older.replace(f"{self._path}.{number + 1}")
            self._path.replace(f"{self._path}.1")


def _empty(path: Path, inode: int) -> None:
    """Unless another one has got its name meanwhile. Whoever appends to it begins anew."""
    with path.open("r+b") as file:
        if os.fstat(file.fileno()).st_ino == inode:
            file.truncate()


def _wait_for(lock: int) -> None:
    """Raises OSError if whoever holds it does not come to an end, as a process that was stopped."""
    until = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > until:
                raise
        _sleep(TRY_SECONDS)


def _for_its_owner(path: str, flags: int) -> int:
    """Whoever can open a lock can hold it."""
    descriptor = os.open(path, flags, 0o600)
    os.fchmod(descriptor, 0o600)  # one from before was everybody's
    return descriptor


class Caretaker:
    """Keeps files of this process small, also while nothing is logged."""

    def __init__(self) -> None:
        self._looks: list[Callable[[], None]] = []

    def take_on(self, file: LogFile) -> None:
        self._looks.append(file.look)

    def keep_small(self, path: Path) -> None:
        """A file that another program writes, and opens anew for each line."""
        self._looks.append(LogFile(path).keep_small)

    def look(self) -> None:
        """To be called about once a second."""
        for look in self._looks:
            with suppress(OSError):
                look()


caretaker: Final = Caretaker()
