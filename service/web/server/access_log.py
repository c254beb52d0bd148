"""gunicorn's logger: one JSON line a request, and gunicorn's own words through Python's logging."""

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from gunicorn.glogging import Logger

from service.observe import logs, scrubber
from service.tasks.moments import stamp
from service.web.auth import CALLER
from service.web.request_id import KEY

LONGEST_PATH: Final = 128  # no route is as long, and a client chooses how much there is to scrub


class RequestLine(logs.Line):
    """No query and no headers: either may hold a secret. The path shows none."""

    method: str
    path: str
    status: int
    duration_ms: float
    bytes: int
    request_id: str
    remote: str
    caller: str | None


class AccessLogger(Logger):  # type: ignore[misc]
    """`accesslog` in the configuration is the log of the web processes, for both kinds of lines."""

    def setup(self, cfg: Any) -> None:
        self.cfg = cfg
        folder = Path(cfg.accesslog).parent
        self._log = logs.configure("web", folder, cfg.loglevel, cfg.access_log_format)
        self.error_log.propagate = True
        self.error_log.setLevel(self.LOG_LEVELS[cfg.loglevel])

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: timedelta) -> None:
        line = RequestLine(
            stamp(time.time()),
            "info",
            f"web/{os.getpid()}",
            environ["REQUEST_METHOD"],
            scrubber.line(environ["PATH_INFO"], LONGEST_PATH),
            int(resp.status[:3]),
            round(request_time.total_seconds() * 1000, 3),
            resp.sent,
            environ.get(KEY, ""),
            environ.get("REMOTE_ADDR", ""),
            environ.get(CALLER),
        )
        self._log.write([line])

    def reopen_files(self) -> None:
        """Nothing to do: the log notices by itself when it was moved."""

    def close_on_exec(self) -> None:
        """Nothing to do: the log's file never outlives an exec."""
