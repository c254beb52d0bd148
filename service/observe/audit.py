"""The audit log: who did what, to which task or process, and from where. One JSON line each.

The web workers and circusd write to the same file. A line is one `write`, as in every log.
"""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from service.observe import scrubber
from service.observe.log_file import LogFile, looked_after
from service.tasks.document import Task, storable_text
from service.tasks.moments import stamp

FILE: Final = "audit.log"
LONGEST_FACT: Final = 1024


class AuditLog:
    def __init__(self, folder: Path, kind: str) -> None:
        """`kind` is the kind of the process that writes, as in the other logs: web, circusd."""
        self._file = LogFile(folder / FILE)
        self._kind = kind
        self._encoder = msgspec.json.Encoder()
        looked_after.append(self._file.look)

    def tell(self, did: str, *, by: str | None, origin: str, tasks: Sequence[Task] = (), **facts: Any) -> None:
        """A line for each task, or one line where it is about none. `by` is the name of a token, or of a user."""
        line = {
            "time": stamp(time.time()),
            "process": f"{self._kind}/{os.getpid()}",
            "did": did,
            "by": by and storable_text(by),
            "from": storable_text(origin),
            **{name: _fact(name, value) for name, value in facts.items()},
        }
        lines: list[dict[str, Any]] = [line | {"uid": task.uid, "type": task.type} for task in tasks] or [line]
        self._file.write(self._encoder.encode_lines(lines))


def _fact(name: str, value: Any) -> Any:
    shown = scrubber.field(name, value, LONGEST_FACT)
    return storable_text(shown) if isinstance(shown, str) else shown
