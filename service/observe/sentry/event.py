"""An error as Sentry's event: exceptions with their stacks, request, grouping. The same for both clients.

The clients do not make it, because they call each object's `repr`, however long that takes, walk stacks of any depth,
and group by messages that hold a task's arguments.
"""

import linecache
import logging
import site
import sysconfig
import time
import uuid
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from types import FrameType, TracebackType
from typing import Any, Final
from urllib.parse import quote

from service.observe import scrubber
from service.observe.scrubber import Budget

CHAIN: Final = 5
OUTER_FRAMES: Final = 10
INNER_FRAMES: Final = 40
CONTEXT_LINES: Final = 4
VALUE_LIMIT: Final = 4096

_LIBRARIES: Final = tuple(
    {*site.getsitepackages(), *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib"))}
)

Event = dict[str, Any]


class Shape:
    """Makes events. `packages` are those whose code is the application's own."""

    def __init__(self, packages: Collection[str]) -> None:
        self._packages = frozenset(packages)

    def of_error(self, error: BaseException, group: Collection[str] = ()) -> Event:
        budget = Budget()
        lines = SourceLines(budget)
        chain = list(_chain(error))
        values = [self._exception(each, budget, lines) for each in chain]
        faults = (told for each, told in zip(chain, values, strict=True) if not isinstance(each, BaseExceptionGroup))
        fault = next(faults, values[0])
        event = _new()
        event["exception"] = {"values": list(reversed(values))}
        event["fingerprint"] = [*group, *_fault(fault)]
        if (place := _place(fault)) is not None:
            event["transaction"] = f"{place['module']} in {place['function']}"
        return event

    def of_message(self, message: str, group: Collection[str] = ()) -> Event:
        event = _new()
        event["message"] = scrubber.text(message, VALUE_LIMIT)
        event["fingerprint"] = [*group, event["message"]]
        return event

    def of_record(self, record: logging.LogRecord, group: Collection[str] = ()) -> Event:
        """One line of code is one issue, whatever its message holds."""
        line = scrubber.source(linecache.getline(record.pathname, record.lineno).strip())
        constant = str(record.msg) if record.args or not line else ""
        place = (record.name, record.module, str(record.funcName), line)
        event = self.of_message(str(record.msg))
        event["fingerprint"] = [*group, *place, *([scrubber.text(constant, VALUE_LIMIT)] if constant else [])]
        event["logger"] = record.name
        return event

    def _exception(self, error: BaseException, budget: Budget, lines: "SourceLines") -> dict[str, Any]:
        # From the innermost outwards: that one tells most, so it spends from the budget first.
        inwards = [self._frame(frame, line, budget, lines) for frame, line in reversed(_frames(error.__traceback__))]
        return {
            "type": type(error).__name__,
            "module": type(error).__module__,
            "value": _message(error),
            "stacktrace": {"frames": inwards[::-1]},
        }

    def _frame(self, frame: FrameType, line: int, budget: Budget, lines: "SourceLines") -> dict[str, Any]:
        path = frame.f_code.co_filename
        module = str(frame.f_globals.get("__name__", "?"))
        return {
            "filename": _short(path, module),
            "abs_path": path,
            "module": module,
            "function": frame.f_code.co_name,
            "lineno": line,
            "in_app": module.partition(".")[0] in self._packages or not path.startswith((*_LIBRARIES, "<")),
            "vars": _variables(frame, budget),
            **lines.around(frame, line),
        }


class SourceLines:
    """Scrubs each line once an event. When the budget is spent, a frame shows no lines around its own."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._shown = cache(scrubber.source)

    def around(self, frame: FrameType, line: int) -> dict[str, Any]:
        try:
            lines = linecache.getlines(frame.f_code.co_filename, frame.f_globals)
        except Exception:
            return {}
        if not 0 < line <= len(lines):
            return {}
        more = 0 if self._budget.spent else CONTEXT_LINES
        shown = [self._show(each) for each in lines[max(0, line - 1 - more) : line + more]]
        at = min(line - 1, more)
        return {"pre_context": shown[:at], "context_line": shown[at], "post_context": shown[at + 1 :]}

    def _show(self, line: str) -> str:
        self._budget.spend(len(shown := self._shown(line.rstrip("\r\n"))))
        return shown


def _new() -> Event:
    return {"event_id": uuid.uuid4().hex, "timestamp": _moment(), "platform": "python", "level": "error"}


def _moment() -> str:
    now = time.time()
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1e6):06d}Z"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """From the exception that was raised last to its causes; from a group to its first member."""
    seen: list[BaseException] = []
    following: BaseException | None = error
    while following is not None and len(seen) < CHAIN and not any(following is each for each in seen):
        yield following
        seen.append(following)
        following = _cause(following)


def _cause(error: BaseException) -> BaseException | None:
    if isinstance(error, BaseExceptionGroup):
        return error.exceptions[0]
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _frames(traceback: TracebackType | None) -> list[tuple[FrameType, int]]:
    """From the outermost to the innermost, without the middle of a deep recursion."""
    frames = []
    while traceback is not None:
        frames.append((traceback.tb_frame, traceback.tb_lineno))
        traceback = traceback.tb_next
    if len(frames) > OUTER_FRAMES + INNER_FRAMES:
        del frames[OUTER_FRAMES:-INNER_FRAMES]
    return frames


def _message(error: BaseException) -> str:
    try:
        return scrubber.text(str(error), VALUE_LIMIT)
    except BaseException:
        return "(its message could not be read)"


def _variables(frame: FrameType, budget: Budget) -> dict[str, Any]:
    if frame.f_locals is frame.f_globals:
        return {}  # a module's frame: these are all of its names
    shown = scrubber.plain(dict(frame.f_locals), budget)
    return shown if isinstance(shown, dict) else {}


def _short(path: str, module: str) -> str:
    """The end of the path, with as many parts as the module's name: service/web/app.py."""
    return "/".join(path.split("/")[-1 - module.count(".") :]) if path.startswith("/") else path


def _place(exception: Mapping[str, Any]) -> dict[str, Any] | None:
    """The innermost frame of the application's own code."""
    frames = exception["stacktrace"]["frames"]
    own = [frame for frame in frames if frame["in_app"]] or frames
    return dict(own[-1]) if own else None


def _fault(exception: Mapping[str, Any]) -> list[str]:
    """One fault is one issue: what was raised, and the text of the line that raised it. Its number may change."""
    place = _place(exception)
    kind = f"{exception['module']}.{exception['type']}"
    if place is None:
        return [kind]
    return [kind, place["module"], place["function"], place.get("context_line", "").strip()]


def of_environ(environ: Mapping[str, Any]) -> dict[str, Any]:
    """The request, without its body."""
    path = quote(str(environ.get("PATH_INFO", "")), safe="/:@!$&'()*+,;=~")
    host = environ.get("HTTP_HOST") or environ.get("SERVER_NAME", "")
    return {
        "method": str(environ.get("REQUEST_METHOD", "")),
        "url": scrubber.text(f"{environ.get('wsgi.url_scheme', 'http')}://{host}{path}"),
        "query_string": scrubber.query(str(environ.get("QUERY_STRING", ""))),
        "headers": scrubber.headers(_headers(environ)),
    }


def _headers(environ: Mapping[str, Any]) -> dict[str, str]:
    return {
        name.removeprefix("HTTP_").replace("_", "-").title(): str(value)
        for name, value in environ.items()
        if name.startswith("HTTP_") or name in ("CONTENT_TYPE", "CONTENT_LENGTH")
    }
