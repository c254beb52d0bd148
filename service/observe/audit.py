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
from service.observe.log_file import LogFile, caretaker
from service.tasks.moments import stamp

FILE: Final = "audit.log"
LONGEST_FACT: Final = 1024


class AuditLog:
    def __init__(self, folder: Path, kind: str) -> None:
        """`kind` is the kind of the process that writes, as in the other logs: web, circusd."""
        self._file = LogFile(folder / FILE)
        self._kind = kind
        self._encoder = msgspec.json.Encoder()
        caretaker.take_on(self._file)

    def tell(self, did: str, *, by: str | None, origin: str, uids: Sequence[str] = (), **facts: Any) -> None:
        """A line for each task, or one line where it is about none. `by` is the name of a token, or of a user."""
        line = {
            "time": stamp(time.time()),
            "process": f"{self._kind}/{os.getpid()}",
            "did": did,
            "by": by,
            "from": origin,
            **{name: scrubber.field(name, value, LONGEST_FACT) for name, value in facts.items()},
        }
        self._file.write(self._encoder.encode_lines([line | {"uid": uid} for uid in uids] or [line]))
