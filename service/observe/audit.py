"""The audit log: who did what, to which task or process, and from where. One JSON line each.

The web workers and circusd write to the same file. A line is one `write`, as in every log.
"""

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from service.observe import scrubber
from service.observe.log_file import LogFile, caretaker
from service.tasks.document import Task, storable_text
from service.tasks.moments import stamp

FILE: Final = "audit.log"
LONGEST_FACT: Final = 1024
READ_BYTES: Final = 1024 * 1024
_encoder: Final = msgspec.json.Encoder()


class AuditLog:
    def __init__(self, folder: Path, kind: str) -> None:
        """`kind` is the kind of the process that writes, as in the other logs: web, circusd."""
        self._path = folder / FILE
        self._file = LogFile(self._path)
        self._kind = kind
        caretaker.take_on(self._file)
        with suppress(OSError):  # a full disk or a lost folder: it is tried again with each line
            self._file.look()

    def tell(self, did: str, *, by: str | None, origin: str, **facts: Any) -> None:
        """A line about anything but a task. `by` is the name of a token, or of a user."""
        self._write([self._line(did, by, origin) | {name: _fact(name, value) for name, value in facts.items()}])

    def tell_of_tasks(
        self, did: str, tasks: Sequence[Task], *, by: str | None, origin: str, request_id: str | None
    ) -> None:
        """A line for each task."""
        line = self._line(did, by, origin) | {"request_id": request_id}
        self._write([line | {"uid": task.uid, "type": task.type} for task in tasks])

    def latest(self) -> list[dict[str, Any]]:
        """The last lines of this host, newest first: as many as lie in so many bytes."""
        found = _end_of(self._path, READ_BYTES)
        if len(found) < READ_BYTES:  # it was moved aside lately
            found = _end_of(self._path.with_name(f"{FILE}.1"), READ_BYTES - len(found)) + found
        return [line for text in reversed(found.splitlines()) if (line := _line_of(text))]

    def _line(self, did: str, by: str | None, origin: str) -> dict[str, Any]:
        return {
            "time": stamp(time.time()),
            "process": f"{self._kind}/{os.getpid()}",
            "did": did,
            "by": by and storable_text(by),
            "from": storable_text(origin),
        }

    def _write(self, lines: Sequence[dict[str, Any]]) -> None:
        self._file.write(_encoder.encode_lines(lines))


def _fact(name: str, value: Any) -> Any:
    shown = scrubber.field(name, value, LONGEST_FACT)
    return storable_text(shown) if isinstance(shown, str) else shown


def _end_of(path: Path, most: int) -> bytes:
    """Whole lines."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - most))
            found = file.read(most)
    except OSError:
        return b""
    return found if size <= most else found.partition(b"\n")[2]


def _line_of(text: bytes) -> dict[str, Any] | None:
    """None for one that is torn, because the disk was full."""
    try:
        line = msgspec.json.decode(text)
    except msgspec.DecodeError:
        return None
    return line if isinstance(line, dict) else None
