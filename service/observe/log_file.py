"""A file that several processes append lines to."""

import fcntl
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

LARGEST_BYTES: Final = 64 * 1024 * 1024
KEPT_FILES: Final = 5
LOOK_SECONDS: Final = 1.0
_encode = msgspec.json.Encoder(enc_hook=str).encode
looked_after: "list[Callable[[], None]]" = []


class Lines(Protocol):
    def write(self, lines: bytes) -> None: ...


class LogFile:
    def __init__(
        self,
        path: Path,
        largest_bytes: int = LARGEST_BYTES,
        *,
        stands_for: tuple[int, ...] = (),
    ) -> None:
        """`stands_for` are descriptors that shall lead here."""
        self._stands_for = stands_for
        self._path = path
        self._largest = largest_bytes
        self._descriptor = -1
        self._looked = -LOOK_SECONDS
        self._torn = False
        self._unlock()
        os.register_at_fork(after_in_child=self._unlock)

    def _unlock(self) -> None:
        """A forked child has nobody who would give the lock back."""
        self._lock = threading.Lock()

    def write(self, lines: bytes) -> None:
        """Appends whole lines; a full disk or a lost folder is nobody's problem but the log's."""
        try:
            if time.monotonic() - self._looked > LOOK_SECONDS:
                self.look()
            if self._torn:
                lines = b"\n" + lines
            self._torn = os.write(self._descriptor, lines) < len(lines)  # the disk has become full
        except OSError:
            self._looked = -LOOK_SECONDS

    def look(self) -> None:
        """Leads to the file of that name, whoever has moved the former one, and keeps it small."""
        with self._lock:
            with suppress(OSError):
                self.keep_small()
            if not self._leads_there():
                self._reopen()
            self._looked = time.monotonic()

    def entry(self, **fields: Any) -> None:
        self.write(_encode(fields) + b"\n")

    def keep_small(self) -> None:
        if self._is_too_large():
            self._roll()

    def _leads_there(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._descriptor), self._path.stat())
        except OSError:
            return False

    def _reopen(self) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        if self._descriptor < 0:
            self._descriptor = descriptor
        else:
            os.dup2(descriptor, self._descriptor, inheritable=False)
            os.close(descriptor)
        for number in self._stands_for:
            os.dup2(self._descriptor, number)

    def _is_too_large(self) -> bool:
        try:
            return self._path.stat().st_size >= self._largest
        except FileNotFoundError:
            return False

    def _roll(self) -> None:
        with open(self._path.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not self._is_too_large():
                return  # another process was quicker
            for number in range(KEPT_FILES - 1, 0, -1):
                older = Path(f"{self._path}.{number}")
                if older.exists():
                    older.replace(f"{self._path}.{number + 1}")
            self._path.replace(f"{self._path}.1")


def look() -> None:
    """To be called about once a second: files stay small also while this process logs nothing."""
    for look_after in looked_after:
        with suppress(OSError):
            look_after()


def keep_small(path: Path) -> None:
    """A file that another program writes, and opens anew for each line."""
    looked_after.append(LogFile(path).keep_small)
