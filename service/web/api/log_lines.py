"""The lines of a task's log as clients see them."""

from typing import Any

from service.observe.output import one_entry
from service.store import Logged, StoredLine
from service.tasks import moments


def shown(logged: Logged) -> dict[str, Any]:
    return {"lines": [_shown_line(line) for line in logged.lines], "dropped": logged.dropped}


def _shown_line(line: StoredLine) -> dict[str, Any]:
    return {
        "id": str(line.number),
        "at": moments.stamp_exactly(line.at),
        "level": line.level,
        "text": line.text,
        "attempt": line.attempt,
    }


def plain(logged: Logged) -> bytes:
    """For a terminal: no line of a handler can look like another's, or speak to the terminal."""
    entries = [f"{moments.stamp_exactly(line.at)} {line.level:<7} {one_entry(line.text)}\n" for line in logged.lines]
    if logged.dropped:
        entries.insert(0, f"({logged.dropped} older lines are gone)\n")
    return "".join(entries).encode()
