"""Where circusd logs to, for conf/circusd-log.json: a file, and warnings on the terminal.

circusd reads that before anything else. So here a circusd that was not started by `sandbox` is refused.
"""

import logging
import os
from typing import Any

from circus.exc import ConflictError

from service import settings
from service.observe import log_file, logs, output
from service.supervise import private_names
from service.supervise.private_names import CIRCUS


def file_handler() -> logging.Handler:
    if not private_names.is_replaced(CIRCUS):
        raise SystemExit(
            "sandbox: circusd alone lacks what sandbox changes in it. Start it by `sandbox run`, "
            'or with arguments of your own: sandbox circusd "$(sandbox path)/circus.ini"'
        )
    read = settings.read(os.environ)
    logging.getLogger().setLevel(read.log_level.upper())
    file = log_file.LogFile(read.logs / "circus.log")
    handler = logs.LineHandler(logs.Log(file, read.log_level, read.log_format), "circusd")
    handler.addFilter(_is_news)
    return handler


def terminal_handler() -> logging.Handler:
    output.keep_terminal()
    handler = output.Terminal()
    handler.setFormatter(_Brief("%(asctime)s circusd: %(message)s"))
    handler.addFilter(_is_news)
    return handler


class _Brief(output.Dated):
    """An exception in one line; the log has the rest."""

    def formatException(self, ei: Any) -> str:
        return str(ei[1]).strip().rpartition("\n")[2]


def _is_news(record: logging.LogRecord) -> bool:
    """The check that circusd makes each second gives way to a running command, and logs that as an error."""
    return not (record.exc_info and isinstance(record.exc_info[1], ConflictError))
