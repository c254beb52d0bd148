"""Log files: JSON lines, one file a process kind, several writers; readable lines on the terminal.

A line is one `write` to a file opened for appending: no other writer can tear it, and no reader is
needed. Whoever finds the file too large moves it aside under a lock; the others notice within a second.
"""

import fcntl
import logging
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from service.task import stamp

LARGEST_BYTES: Final = 64 * 1024 * 1024
KEPT_FILES: Final = 5
LOOK_SECONDS: Final = 1.0

_encode = msgspec.json.Encoder(enc_hook=str).encode


class LogFile:
    def __init__(self, path: Path, largest_bytes: int = LARGEST_BYTES) -> None:
        self._path = path
        self._largest = largest_bytes
        self._lock = threading.Lock()
        self._descriptor = -1
        self._looked = 0.0

    def write(self, lines: bytes) -> None:
        """Appends whole lines; a full disk or a lost folder is nobody's problem but the log's."""
        try:
            now = time.monotonic()
            if now - self._looked > LOOK_SECONDS:
                with self._lock:
                    self._looked = now
                    self._reopen()
            os.write(self._descriptor, lines)
        except OSError:
            self._looked = 0.0

    def entry(self, **fields: Any) -> None:
        self.write(_encode(fields) + b"\n")

    def _reopen(self) -> None:
        if self._is_too_large():
            self._roll()
        descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        if self._descriptor < 0:
            self._descriptor = descriptor
        else:
            os.dup2(descriptor, self._descriptor, inheritable=False)
            os.close(descriptor)

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


class JsonHandler(logging.Handler):
    """Python's log records as JSON lines."""

    def __init__(self, file: LogFile, kind: str) -> None:
        super().__init__()
        self._file = file
        self._kind = kind
        self._trace = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            fields = {
                "time": stamp(record.created),
                "level": record.levelname.lower(),
                "process": f"{self._kind}/{record.process}",
                "logger": record.name,
                "message": record.getMessage(),
            }
            if record.exc_info:
                fields["traceback"] = self._trace.formatException(record.exc_info)
            self._file.write(_encode(fields | getattr(record, "fields", {})) + b"\n")
        except Exception:
            self.handleError(record)


class OncePerMinute(logging.Filter):
    """Lets one record a minute pass of those that carry the same `once` mark."""

    def __init__(self, seconds: float = 60.0) -> None:
        super().__init__()
        self._seconds = seconds
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        mark = getattr(record, "once", None)
        if mark is None:
            return True
        now = time.monotonic()
        if now - self._last.get(mark, -self._seconds) < self._seconds:
            return False
        self._last[mark] = now
        return True


def configure(kind: str, folder: Path, level: int = logging.INFO) -> LogFile:
    """Sets up a process's log: everything into its file, warnings on the terminal too."""
    folder.mkdir(parents=True, exist_ok=True)
    file = LogFile(folder / f"{kind}.log")
    terminal = logging.StreamHandler(sys.stderr)
    terminal.setLevel(logging.WARNING)
    terminal.setFormatter(logging.Formatter(f"%(asctime)s {kind}/%(process)d %(levelname)s %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [JsonHandler(file, kind), terminal]
    root.setLevel(level)
    for handler in root.handlers:
        handler.addFilter(OncePerMinute())
    logging.raiseExceptions = False
    return file
