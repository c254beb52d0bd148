"""Reports how attempts ended: a line each in the log, a batch's share of the metrics, and of the history's counts."""

import os
import time
from collections.abc import Sequence

from msgspec import structs

from service.observe import scrubber
from service.observe.log_file import LONGEST_TEXT
from service.observe.logs import Line, Lines
from service.observe.metrics import Metrics
from service.store import Tally
from service.tasks.document import Task, TaskError
from service.tasks.moments import stamp


class OutcomeLine(Line):
    message: str
    uid: str
    type: str
    queue: str
    status: str
    attempt: int
    duration: float | None
    error: dict[str, str | None] | None
    request_id: str | None


class Report:
    def __init__(self, lines: Lines, *, metrics: Metrics | None = None) -> None:
        self._lines = lines
        self._metrics = metrics or Metrics()
        self.tally = Tally()
        self._process = f"runner/{os.getpid()}"

    def outcomes(self, settled: Sequence[Task], entries: Sequence[str] | None = None) -> None:
        """Reports tasks whose attempt has ended, as stored; `entries` are the ids of their queue entries."""
        if not settled:
            return
        now, entries = time.time(), entries or [""] * len(settled)
        stamped = stamp(now)
        self._lines.write([self._line(stamped, task) for task in settled])
        self._metrics.outcomes(settled, entries)
        self.tally.outcomes(now, settled, entries)

    def _line(self, now: str, task: Task) -> OutcomeLine:
        return OutcomeLine(
            now,
            "warning" if task.error else "info",
            self._process,
            "task",
            task.uid,
            task.type,
            task.queue,
            task.status,
            task.attempt,
            task.duration,
            _shown(task.error),
            task.request_id,
        )


def _shown(error: TaskError | None) -> dict[str, str | None] | None:
    """An error that an earlier release has stored may hold a secret."""
    if error is None:
        return None
    return structs.asdict(error) | {"message": scrubber.line(error.message, LONGEST_TEXT)}
