"""Log files: JSON lines, one file a process kind, several writers; readable lines on the terminal.

A line is one `write` to a file opened for appending: no other writer can tear it, and no reader is
needed. Whoever finds the file too large moves it aside under a lock; the others notice within a second,
as they write, or because what ticks in them anyway calls `look`.

What a process prints, rather than logs, goes into a file of its own in the same way (`keep_output`): a
pipe would tear it, and would end or hold up the process when nobody reads any more. The terminal gets
warnings only while it takes them.
"""

import json
import logging
import time
from collections.abc import Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final

import msgspec

from service.observe import scrubber
from service.observe.log_file import Lines, LogFile, looked_after
from service.observe.output import LONGEST_TEXT, Terminal
from service.tasks.moments import stamp

LEVELS: Final = ((50, "critical"), (40, "error"), (30, "warning"), (20, "info"))
MOST_MARKS: Final = 1000


_encode = msgspec.json.Encoder(enc_hook=str).encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode
# What the lines of this thread or greenlet are about; a handler's own loggers know nothing of tasks.
about: ContextVar[Mapping[str, Any]] = ContextVar("about", default={})  # noqa: B039 - nobody changes it


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


def configure(kind: str, folder: Path, level: str = "info", format: str = "json") -> Lines:
    """Sets up a process's log: everything into its file, warnings on the terminal too."""
    folder.mkdir(parents=True, exist_ok=True)
    log = LogFile(folder / f"{kind}.log")
    looked_after.append(log.look)
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
