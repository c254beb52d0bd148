"""Hears what is logged during an attempt, and keeps it for the task's log.

A line belongs to the attempt that its thread executes; one of `context.logger`, to that context, from any thread.
"""

import logging
from contextvars import ContextVar
from typing import Final

from service.observe import logs, scrubber
from service.observe.lockless import Lockless
from service.tasks.context import Context

TRACEBACK_LIMIT: Final = 4 * 1024
executing: ContextVar[Context | None] = ContextVar("executing", default=None)


class Hearing(Lockless):
    def __init__(self, level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self._trace = logging.Formatter()

    def emit(self, record: logging.LogRecord) -> None:
        context = getattr(record, "sandbox_context", None) or executing.get()
        if isinstance(context, Context):
            try:
                context.keep(logs.level_name(record.levelno), self._text(record))
            except Exception:
                self.handleError(record)

    def _text(self, record: logging.LogRecord) -> str:
        text = logs.message(record)
        if record.exc_info:
            trace = scrubber.end(self._trace.formatException(record.exc_info), TRACEBACK_LIMIT)
            return f"{text}\n{trace}"
        return text
