"""Log lines: how they look, JSON or text for people, and from which level on they are written.

Who writes hands over the line with its level, and `Log` encodes it once it is chosen: records of Python's logging
(`LineHandler`), and lines of a fixed shape (`Line`), such as those of requests and of tasks.
"""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

import msgspec

from service.observe import scrubber
from service.observe.lockless import Lockless
from service.observe.log_file import LONGEST_TEXT, LogFile, caretaker
from service.observe.output import Dated, Terminal, one_entry
from service.tasks.moments import stamp

LEVELS: Final = {"critical": 50, "error": 40, "warning": 30, "info": 20, "debug": 10}
MOST_MARKS: Final = 1000
OF_ONE_TASK: Final = "sandbox.attempt"  # the logger of lines that are not for the terminal
_encoder = msgspec.json.Encoder(enc_hook=str)
_OURS: Final = ("fields", "once", "sandbox_context")
_OF_EVERY_RECORD: Final = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName", *_OURS}
# Added to each line of this thread or greenlet: a handler's own loggers know nothing of tasks.
about: ContextVar[Mapping[str, Any]] = ContextVar("about", default={})  # noqa: B039 - nobody changes it


class Line(msgspec.Struct):
    """What every line begins with."""

    time: str
    level: str
    process: str


Fields: TypeAlias = dict[str, Any]


class Lines(Protocol):
    def write(self, lines: Sequence[Line]) -> None: ...


class Log:
    """A log file as the settings want it."""

    def __init__(self, file: LogFile, level: str = "info", format: str = "json") -> None:
        self.least = LEVELS[level]
        self._file = file
        self._encode = _for_people if format == "text" else _as_json

    def write(self, lines: Sequence[Line]) -> None:
        if chosen := [line for line in lines if LEVELS[line.level] >= self.least]:
            self._file.write(self._encode(chosen))

    def write_record(self, fields: Fields) -> None:
        """Writes a record of Python's logging, which has checked the level."""
        self._file.write(self._encode([fields]))


def _as_json(lines: Sequence[Line | Fields]) -> bytes:
    try:
        return _encoder.encode_lines(lines)
    except (TypeError, ValueError):  # not UTF-8, or keys that are not text
        return "".join(f"{_oddly(line)}\n" for line in lines).encode()


def _oddly(line: Line | Fields) -> str:
    return json.dumps({str(name): value for name, value in _fields(line).items()}, default=repr)


def _for_people(lines: Sequence[Line | Fields]) -> bytes:
    return "".join(f"{_text(_fields(line))}\n" for line in lines).encode(errors="replace")


def _text(fields: Fields) -> str:
    head = [str(fields.pop(name)) for name in ("time", "process", "level") if name in fields]
    message, *below = str(fields.pop("message", "")).splitlines() or [""]
    below.append(fields.pop("traceback", ""))
    if isinstance(error := fields.get("error"), dict):
        below.append(f"{error.get('type')}: {error.get('message')}")
        fields["error"] = error.get("event_id")
    rest = [f"{name}={_shown(value)}" for name, value in fields.items() if value not in (None, "")]
    return one_entry("\n".join(filter(None, (" ".join(filter(None, (*head, message, *rest))), *below))))


def _fields(line: Line | Fields) -> Fields:
    return dict(line) if isinstance(line, dict) else msgspec.to_builtins(line)


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else _encoder.encode(value).decode()
    return text if text.isprintable() and " " not in text else json.dumps(text, ensure_ascii=False)


class LineHandler(Lockless):
    """Python's log records as lines."""

    def __init__(self, log: Log, kind: str) -> None:
        super().__init__(log.least)
        self._log = log
        self._kind = kind
        self._trace = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            fields = self._fields(record)
            fields |= {name: value for name, value in facts(record).items() if name not in fields}
            fields |= {f"{name}_" if name in fields else name: value for name, value in extras(record).items()}
            self._log.write_record(fields)
        except Exception:
            self.handleError(record)

    def _fields(self, record: logging.LogRecord) -> dict[str, Any]:
        fields = {
            "time": stamp(record.created),
            "level": level_name(record.levelno or 0),
            "process": f"{self._kind}/{record.process}",
            "logger": record.name,
            "message": scrubber.line(message(record), LONGEST_TEXT),
        }
        if record.exc_info:
            fields["traceback"] = scrubber.end(self._trace.formatException(record.exc_info), LONGEST_TEXT)
        return fields


def level_name(number: int) -> str:
    """The name of this level, or of the next lower one with a name: libraries have levels of their own."""
    return next((name for name, least in LEVELS.items() if number >= least), "debug")


def message(record: logging.LogRecord) -> str:
    """Never raises: arguments that do not fit are shown beside the message."""
    try:
        return record.getMessage()
    except Exception:
        return f"{scrubber.plain(record.msg)} {scrubber.plain(record.args)}"


def facts(record: logging.LogRecord) -> Fields:
    """What the line is about: the task that runs in this thread, and the `fields` that our own code adds."""
    return {**about.get(), **_shown_fields(getattr(record, "fields", None))}


def extras(record: logging.LogRecord) -> Fields:
    """What a handler's own code adds: `extra={...}` of its call."""
    return _shown_fields({name: value for name, value in vars(record).items() if name not in _OF_EVERY_RECORD})


def _shown_fields(fields: object) -> Fields:
    if not isinstance(fields, dict):
        return {}
    return {name: scrubber.field(name, value, LONGEST_TEXT) for name, value in fields.items()}


class OncePerMinute(logging.Filter):
    """Lets one record a minute pass of those that carry the same `once` mark."""

    def __init__(self, seconds: float = 60.0) -> None:
        super().__init__()
        self._seconds = seconds
        self._last: dict[str, float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        mark = getattr(record, "once", None)
        if not isinstance(mark, str):
            return True
        now = time.monotonic()
        if now - self._last.get(mark, -self._seconds) < self._seconds:
            return False
        self._last[mark] = now
        if len(self._last) > MOST_MARKS:
            self._last = {mark: at for mark, at in list(self._last.items()) if now - at < self._seconds}
        return True


def configure(kind: str, folder: Path, level: str = "info", format: str = "json") -> Log:
    """Sets up a process's log: all lines go into its file, warnings to the terminal too, but not those of tasks."""
    folder.mkdir(parents=True, exist_ok=True)
    file = LogFile(folder / f"{kind}.log")
    caretaker.take_on(file)
    log = Log(file, level, format)
    warnings = Terminal()
    warnings.setLevel(logging.WARNING)
    warnings.addFilter(lambda record: record.name != OF_ONE_TASK)
    warnings.setFormatter(Dated(f"%(asctime)s {kind}/%(process)d %(levelname)s %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [LineHandler(log, kind), warnings]
    root.setLevel(level.upper())
    for handler in root.handlers:
        handler.addFilter(OncePerMinute())
    logging.raiseExceptions = False
    return log
