"""Log files: JSON lines, one file a process kind, several writers; readable lines on the terminal.

A line is one `write` to a file opened for appending: no other writer can tear it, and no reader is
needed. Whoever finds the file too large moves it aside under a lock; the others notice within a second,
as they write, or because what ticks in them anyway calls `look`.

What a process prints, rather than logs, goes into a file of its own in the same way (`keep_output`): a
pipe would tear it, and would end or hold up the process when nobody reads any more. The terminal gets
warnings only while it takes them.
"""

import fcntl
import json
import logging
import os
import select
import stat
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol

import msgspec

from service import scrubber
from service.task import stamp

LARGEST_BYTES: Final = 64 * 1024 * 1024
KEPT_FILES: Final = 5
LOOK_SECONDS: Final = 1.0

LEVELS: Final = ((50, "critical"), (40, "error"), (30, "warning"), (20, "info"))
MOST_MARKS: Final = 1000

LONGEST_TEXT: Final = 32 * 1024  # of a message, or a traceback
LONGEST_WRITE: Final = 4096  # a pipe with room takes that much without holding up the writer

_encode = msgspec.json.Encoder(enc_hook=str).encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode
# What the lines of this thread or greenlet are about; a handler's own loggers know nothing of tasks.
about: ContextVar[Mapping[str, Any]] = ContextVar("about", default={})  # noqa: B039 - nobody changes it
_terminal = -1
_looked_after: "list[Callable[[], None]]" = []


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


class JsonHandler(logging.Handler):
    """Python's log records as JSON lines."""

    def __init__(self, file: Lines, kind: str) -> None:
        super().__init__()
        self._file = file
        self._kind = kind
        self._trace = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            fields = self._fields(record)
            more = {name: value for name, value in _extras(record).items() if name not in fields}
            self._file.write(_json(fields | more) + b"\n")
        except Exception:
            self.handleError(record)

    def _fields(self, record: logging.LogRecord) -> dict[str, Any]:
        fields = {
            "time": stamp(record.created),
            "level": _level(record.levelno or 0),
            "process": f"{self._kind}/{record.process}",
            "logger": record.name,
            "message": scrubber.line(_message(record), LONGEST_TEXT),
        }
        if record.exc_info:
            fields["traceback"] = scrubber.end(self._trace.formatException(record.exc_info), LONGEST_TEXT)
        return fields


def _level(number: int) -> str:
    """The next one below that has a name: those of libraries mean nothing here."""
    return next((name for least, name in LEVELS if number >= least), "debug")


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:  # its arguments do not fit
        return f"{scrubber.plain(record.msg)} {scrubber.plain(record.args)}"


def _extras(record: logging.LogRecord) -> dict[str, Any]:
    """What the line is about: the task that runs here, and what whoever wrote it has added."""
    fields = getattr(record, "fields", None)
    given = fields if isinstance(fields, dict) else {}
    return {**about.get(), **{name: scrubber.field(name, value, LONGEST_TEXT) for name, value in given.items()}}


def _json(fields: dict[str, Any]) -> bytes:
    try:
        return _encode(fields)
    except (TypeError, ValueError):  # no UTF-8, or keys that are no text
        return json.dumps({str(name): value for name, value in fields.items()}, default=repr).encode()


class Chosen:
    """Passes on the lines that are important enough; to be read by people, if they shall be."""

    def __init__(self, file: Lines, level: str, format: str) -> None:
        self._file = file
        self._least = logging.getLevelNamesMapping()[level.upper()]
        self._readable = format == "text"

    def write(self, lines: bytes) -> None:
        chosen = [line for line in lines.splitlines() if self._is_important(line)]
        if chosen:
            self._file.write(b"".join(_text(line) if self._readable else line + b"\n" for line in chosen))

    def _is_important(self, line: bytes) -> bool:
        return logging.getLevelNamesMapping()[_decode(line)["level"].upper()] >= self._least


def _text(line: bytes) -> bytes:
    fields = _decode(line)
    head = [str(fields.pop(name)) for name in ("time", "process", "level", "message") if name in fields]
    below = [fields.pop("traceback", "")]
    if isinstance(error := fields.get("error"), dict):
        below.append(f"{error.get('type')}: {error.get('message')}")
        fields["error"] = error.get("event_id")
    rest = [f"{name}={_shown(value)}" for name, value in fields.items() if value not in (None, "")]
    return ("\n".join(filter(None, (" ".join(head + rest), *below))) + "\n").encode(errors="replace")


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else _encode(value).decode()
    return text if text.isprintable() and " " not in text else _encode(text).decode()


def keep_terminal() -> None:
    """Warnings and news go where standard error leads now, and never wait for a reader."""
    global _terminal
    if _terminal < 0:
        _terminal = never_waiting(2)


def lead_terminal(descriptor: int) -> None:
    """And from here on where this one leads."""
    fresh = never_waiting(descriptor)
    os.dup2(fresh, terminal(), inheritable=_terminal < 0)
    os.close(fresh)


def say(text: str) -> None:
    """For people, on the terminal, if it takes it."""
    with suppress(OSError):
        if _takes_more(terminal()):
            os.write(terminal(), f"{text}\n".encode(errors="replace"))


def never_waiting(descriptor: int) -> int:
    """The same terminal or pipe, opened anew: O_NONBLOCK on the given one would be everybody's."""
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            return os.dup(descriptor)  # never waits; opened anew, it would be written over from its beginning
        return os.open(f"/dev/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return os.dup(descriptor)


def terminal() -> int:
    """The descriptor that warnings go to, for people to see."""
    return _terminal if _terminal >= 0 else sys.stderr.fileno()


class Terminal(logging.Handler):
    """Never waits: a terminal or a pipe that takes no more gets no more."""

    def emit(self, record: logging.LogRecord) -> None:
        descriptor = terminal()
        try:
            text = (scrubber.end(self.format(record), LONGEST_TEXT) + "\n").encode(errors="replace")
            for begin in range(0, len(text), LONGEST_WRITE):
                if _takes_more(descriptor):
                    os.write(descriptor, text[begin : begin + LONGEST_WRITE])
        except Exception:
            self.handleError(record)


def _takes_more(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return any(event & (select.POLLOUT | select.POLLERR) == select.POLLOUT for _, event in poll.poll(0))


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
        if len(self._last) > MOST_MARKS:
            self._last = {mark: at for mark, at in list(self._last.items()) if now - at < self._seconds}
        return True


def lines(file: LogFile, level: str, format: str) -> Lines:
    """A log file as the settings want it."""
    return file if (level, format) in (("info", "json"), ("debug", "json")) else Chosen(file, level, format)


def look() -> None:
    """To be called about once a second: files stay small also while this process logs nothing."""
    for look_after in _looked_after:
        with suppress(OSError):
            look_after()


def keep_output(kind: str, folder: Path) -> None:
    """From here on, what this process and its children print goes into a file."""
    if _terminal >= 0:
        return
    folder.mkdir(parents=True, exist_ok=True)
    keep_terminal()
    output = LogFile(folder / f"{kind}.out", stands_for=(1, 2))
    output.look()
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    sys.excepthook = _log_exception
    _looked_after.append(output.look)


def keep_small(path: Path) -> None:
    """A file that another program writes, and opens anew for each line."""
    _looked_after.append(LogFile(path).keep_small)


def _log_exception(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    logging.getLogger("sandbox").critical("this process ends: %s", error, exc_info=(kind, error, traceback))


def configure(kind: str, folder: Path, level: str = "info", format: str = "json") -> Lines:
    """Sets up a process's log: everything into its file, warnings on the terminal too."""
    folder.mkdir(parents=True, exist_ok=True)
    log = LogFile(folder / f"{kind}.log")
    _looked_after.append(log.look)
    file = lines(log, level, format)
    warnings = Terminal()
    warnings.setLevel(logging.WARNING)
    warnings.setFormatter(logging.Formatter(f"%(asctime)s {kind}/%(process)d %(levelname)s %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [JsonHandler(file, kind), warnings]
    root.setLevel(level.upper())
    for handler in root.handlers:
        handler.addFilter(OncePerMinute())
    logging.raiseExceptions = False
    return file
