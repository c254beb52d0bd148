"""Values as people read them: times, sizes, and JSON, exact to the last digit and without secrets."""

import json
import math
import re
import time
from collections.abc import Container, Iterator
from datetime import UTC, datetime
from typing import Any, Final

from service.observe import scrubber
from service.tasks import moments
from service.tasks.document import NULL, RUNNING, Task

NOTHING: Final = "\N{EN DASH}"
SUMMARY_BYTES: Final = 2048
SUMMARY_CHARACTERS: Final = 90
LARGEST_BYTES: Final = 64 * 1024
DEEPEST: Final = 24  # blanks before a line: what lies deeper stands in a row
# What changes the direction of text, or is not seen, could make a value look like another one.
UNSEEN: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u2800\u3164\ufe00-\ufe0e\ufeff\uffa0\ufff0-\ufffb\U000e0000-\U000e0fff]"
)
STEPS: Final = ((60, 1, "s"), (3600, 60, "min"), (86400, 3600, "h"), (math.inf, 86400, "d"))


class Number(str):
    """A number as it is written in JSON: no digit of it is lost."""


def count(number: float) -> str:
    return f"{round(number):,}"


def size(number: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if number < 1024 or unit == "GB":
            return f"{number:.0f} {unit}" if unit == "B" or number >= 100 else f"{number:.1f} {unit}"
        number /= 1024
    raise AssertionError


def span(seconds: float | None) -> str:
    """How long something took, in two units at most."""
    if seconds is None:
        return NOTHING
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s".replace(".0 ", " ")
    whole = round(seconds)
    for unit, name, small, small_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= unit:
            rest = whole % unit // small
            return f"{whole // unit} {name} {rest} {small_name}" if rest else f"{whole // unit} {name}"
    raise AssertionError


def ago(moment: str | None, now: float | None = None) -> str:
    """`3 s ago`, or `in 5 min`."""
    if not moment:
        return NOTHING
    seconds = (time.time() if now is None else now) - moments.microseconds(moment) / 1e6
    if abs(seconds) < 1:
        return "just now"
    for below, unit, name in STEPS:
        if abs(seconds) < below:
            number = int(abs(seconds) // unit)
            return f"{number} {name} ago" if seconds > 0 else f"in {number} {name}"
    raise AssertionError


def exactly(moment: str | None) -> str:
    return f"{moment[:10]} {moment[11:-1]} UTC" if moment else ""


def stamp(microseconds: int) -> str:
    return moments.stamp_exactly(microseconds)


def clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def text(value: object) -> str:
    """Without characters that hide or turn others."""
    return UNSEEN.sub(lambda found: re.sub("....", r"\\u\g<0>", found[0].encode("utf-16-be").hex()), str(value))


def progress(task: Task) -> dict[str, Any] | None:
    """How far a task is that runs, and says so."""
    if task.status != RUNNING or task.progress == NULL:
        return None
    told = parsed(task.progress)
    fraction = told.get("fraction")
    return {"percent": None if fraction is None else round(100 * float(fraction), 1), "message": told["message"]}


def parsed(raw: bytes) -> Any:
    return json.loads(bytes(raw), parse_int=Number, parse_float=Number, parse_constant=Number)


def exact(raw: bytes, secret: Container[str] = ()) -> str:
    """JSON with a line for each member, its numbers as they are written."""
    return "".join(_written(hidden(parsed(raw), secret), ""))


def summary(raw: bytes, secret: Container[str] = ()) -> str:
    """The beginning of what is in an object, in one line."""
    if len(raw) > SUMMARY_BYTES:
        return f"({size(len(raw))})"
    value = hidden(parsed(raw), secret)
    if not isinstance(value, dict):
        shown = _in_a_row(value)
    else:
        shown = ", ".join(f"{text(name)}={_in_a_row(member)}" for name, member in value.items())
    return shown if len(shown) <= SUMMARY_CHARACTERS else shown[: SUMMARY_CHARACTERS - 1] + "…"


def hidden(value: Any, secret: Container[str] = ()) -> Any:
    """The value without what stands under a secret's name, or looks like a secret."""
    if isinstance(value, Number):
        return value
    if isinstance(value, str):
        return scrubber.text(value, max(len(value), 1))
    if isinstance(value, list):
        return [hidden(member, secret) for member in value]
    if isinstance(value, dict):
        return {
            name: scrubber.REMOVED if name in secret or scrubber.is_secret(name) else hidden(member, secret)
            for name, member in value.items()
        }
    return value


def restored(value: Any, before: Any, seen: Any) -> Any:
    """The value, with what was hidden in it as it was before, which was shown as `seen`. A ValueError if nobody can
    tell what that was.
    """
    if isinstance(value, dict):
        old, shown = [each if isinstance(each, dict) else {} for each in (before, seen)]
        return {name: restored(member, old.get(name), shown.get(name)) for name, member in value.items()}
    if isinstance(value, list):
        return _restored_list(value, *[each if isinstance(each, list) else [] for each in (before, seen)])
    if scrubber.REMOVED not in written(value) or (seen == before and scrubber.REMOVED in written(before)):
        return value
    if not _is_as_seen(value, seen):
        raise ValueError(f"write what is to stand for {scrubber.REMOVED}")
    return before


def _is_as_seen(value: Any, seen: Any) -> bool:
    """A form's lines end as the browser likes."""
    return value == seen or (isinstance(seen, str) and value == "\n".join(seen.splitlines()))


def _restored_list(value: list[Any], before: list[Any], seen: list[Any]) -> list[Any]:
    """Its members may have moved: what is hidden goes back only into one that is otherwise as it was."""
    texts = list(map(written, seen))
    known: dict[str, dict[str, Any]] = {}  # of how a member was shown: all that it may have been
    for text, member in zip(texts, before, strict=False):
        known.setdefault(text, {})[written(member)] = member
    whole = []
    for at, (text, member) in enumerate(zip(map(written, value), value, strict=True)):
        if scrubber.REMOVED not in text:
            whole.append(member)
        elif len(value) == len(before) and texts[at : at + 1] == [text]:
            whole.append(before[at])
        elif len(known.get(text, ())) == 1:
            whole += known[text].values()
        else:
            raise ValueError(f"write what is to stand for {scrubber.REMOVED} in the list")
    return whole


def written(value: Any) -> str:
    """The value as JSON that a program reads; a Number as it is."""
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(name)}: {written(member)}" for name, member in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    return json.dumps(value)


def _in_a_row(value: Any) -> str:
    return "".join(_written(value, None))


def _written(value: Any, indent: str | None) -> Iterator[str]:
    if isinstance(value, Number) or not isinstance(value, str | dict | list):
        yield str(value) if isinstance(value, Number) else json.dumps(value)
    elif isinstance(value, str):
        yield text(json.dumps(value, ensure_ascii=False))
    elif not value:
        yield "{}" if isinstance(value, dict) else "[]"
    else:
        yield from _members(value, indent)


def _members(value: Any, indent: str | None) -> Iterator[str]:
    deeper = None if indent is None or len(indent) >= DEEPEST else indent + "  "
    between = ", " if deeper is None else f",\n{deeper}"
    opening, closing = "{}" if isinstance(value, dict) else "[]"
    yield opening if deeper is None else f"{opening}\n{deeper}"
    for number, member in enumerate(value):
        if number:
            yield between
        if isinstance(value, dict):
            yield text(json.dumps(member, ensure_ascii=False)) + ": "
            yield from _written(value[member], deeper)
        else:
            yield from _written(member, deeper)
    yield closing if deeper is None else f"\n{indent}{closing}"
