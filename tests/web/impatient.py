"""gunicorn's configuration for the tests of slow clients: as in production, with a short deadline."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from conf.gunicorn import *  # noqa: F403
from service.web.server.worker import Worker


class ImpatientWorker(Worker):
    request_seconds = 1.0
    last_request_seconds = 0.5


worker_class = ImpatientWorker
