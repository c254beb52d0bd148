"""What commands print: tables and colours for a person at a terminal, columns with tabs between for programs.

Text of others is cleaned: what cannot be printed is escaped, so no task can speak to a terminal or forge a column.
"""

import json
import os
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any, Final, TextIO

COLOURS: Final = {
    "succeeded": "32",
    "failed": "31",
    "unreadable": "31",
    "running": "36",
    "queued": "33",
    "scheduled": "33",
    "cancelled": "35",
    "paused": "33",
    "ready": "32",
}
DIM: Final = "2"
ALARM: Final = "31"
GAP: Final = "  "
LOGGED: Final = ("at", "level", "attempt", "text")
SPANS: Final = ((86400, "d"), (3600, "h"), (60, "min"))


def is_terminal() -> bool:
    return sys.stdout.isatty()


def people_watch() -> bool:
    """Is somebody there for whom progress is shown, on standard error?"""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def has_screen() -> bool:
    """Can what is shown be written over?"""
    return is_terminal() and os.environ.get("TERM") != "dumb"


def coloured(text: str, colour: str | None) -> str:
    if not colour or not is_terminal() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{colour}m{text}\x1b[0m"


def clean(value: object) -> str:
    text = "" if value is None else str(value)
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def document(value: Any) -> None:
    """JSON, in one line for programs."""
    print(_json(value, indent=2 if is_terminal() else None), flush=True)


def documents(values: Iterable[Any]) -> None:
    for value in values:
        print(_json(value), flush=True)


def _json(value: Any, indent: int | None = None) -> str:
    """What cannot be printed is escaped as JSON escapes it: the value is the same."""
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each == "\n" else json.dumps(each)[1:-1] for each in text)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    for line in lines(head, rows):
        print(line)


def lines(head: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterable[str]:
    cells = ([clean(cell) for cell in row] for row in rows)
    if not is_terminal():
        return map("\t".join, cells)
    return _aligned(head, list(cells))


def _aligned(head: Sequence[str], rows: list[list[str]]) -> Iterable[str]:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    room = _columns()
    yield coloured(_line([word.upper() for word in head], widths, room), DIM)
    for row in rows:
        text = _line(row, widths, room)
        for status in set(row) & COLOURS.keys():
            text = text.replace(f"{status}", coloured(status, COLOURS[status]), 1)
        yield text


def _line(cells: Sequence[str], widths: Sequence[int], room: int) -> str:
    return _cut(GAP.join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip(), room)


def fitting(text: str) -> str:
    """One line: at a terminal no longer than there is room."""
    return _cut(clean(text), _columns()) if is_terminal() else clean(text)


def _cut(text: str, room: int) -> str:
    return text if len(text) <= room else f"{text[: max(0, room - 1)]}…"


def _columns() -> int:
    import shutil

    return shutil.get_terminal_size().columns


def rows() -> int:
    """Of the terminal."""
    import shutil

    return max(1, shutil.get_terminal_size().lines)


def fields(values: Iterable[tuple[str, object]]) -> None:
    """One thing, a line for each of its fields."""
    pairs = [(clean(name), clean(value)) for name, value in values]
    width = max((len(name) for name, _ in pairs), default=0)
    for name, value in pairs:
        if is_terminal():
            print(f"{coloured(name.ljust(width), DIM)}{GAP}{coloured(value, COLOURS.get(value))}")
        else:
            print(f"{name}\t{value}")


def compact(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def ago(moment: str | None) -> str:
    if moment is None:
        return ""
    from datetime import datetime  # its import takes a tenth of a command's time

    seconds = time.time() - datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp()
    return f"{span(seconds)} ago" if seconds >= 0 else f"in {span(-seconds)}"


def span(seconds: float | None) -> str:
    if seconds is None:
        return ""
    for size, unit in SPANS:
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def megabytes(number: float | None) -> str:
    return "" if number is None else f"{number / 1_000_000:.0f} MB"


def log_line(line: dict[str, Any], file: TextIO) -> None:
    """Only its first line begins at the margin; for programs all of it is one line."""
    if not file.isatty():
        print(*(clean(line[name]) for name in LOGGED), sep="\t", file=file, flush=True)
        return
    first, *below = line["text"].expandtabs().splitlines() or [""]
    print(f"{clean(line['at'][:19])}Z {clean(line['level']):<7} {clean(first)}", file=file)
    for each in below:
        print(f"    {clean(each)}", file=file)


def tell(text: str) -> None:
    """Beside the result, on standard error. The text may hold what a server, or somebody's file, has said."""
    print("sandbox:", "\n".join(map(clean, text.split("\n"))), file=sys.stderr)


class ProgressLine:
    """One line on the terminal that is written over, and taken away at the end. Without a terminal, nothing."""

    def __init__(self) -> None:
        self._shown = ""

    def show(self, text: str) -> None:
        if not people_watch() or text == self._shown:
            return
        room = _columns() - 1
        sys.stderr.write(f"\r\x1b[K{clean(text)[:room]}")
        sys.stderr.flush()
        self._shown = text

    def clear(self) -> None:
        if self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
            self._shown = ""

    def __enter__(self) -> "ProgressLine":
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()
