"""One outcome of an attempt: one line in the log."""

import os
import time
from collections.abc import Iterable
from typing import Protocol

import msgspec

from service.task import Task, TaskError, stamp


class Lines(Protocol):
    def write(self, lines: bytes) -> None: ...


class OutcomeLine(msgspec.Struct):
    time: str
    level: str
    process: str
    message: str
    uid: str
    type: str
    queue: str
    status: str
    attempt: int
    duration: float | None
    error: TaskError | None


class Report:
    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._process = f"runner/{os.getpid()}"
        self._encoder = msgspec.json.Encoder()

    def outcomes(self, settled: Iterable[Task]) -> None:
        """Tells of tasks whose attempt has ended, as they are stored now."""
        now = stamp(time.time())
        lines = self._encoder.encode_lines([self._line(now, task) for task in settled])
        if lines:
            self._lines.write(lines)

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
            task.error,
        )
