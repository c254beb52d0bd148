"""What our handlers of log records have in common: none has a lock.

An attempt is interrupted anywhere by an exception. Before Python 3.13, `logging` takes a handler's lock in Python code:
an interruption in the midst of it would leave it locked, and whoever logs next in the process would wait for ever.
"""

import logging


class Lockless(logging.Handler):
    """Its `emit` may run in several threads at once."""

    def handle(self, record: logging.LogRecord) -> bool:
        chosen = self.filter(record)
        if chosen:
            self.emit(chosen if isinstance(chosen, logging.LogRecord) else record)
        return bool(chosen)
