"""gunicorn's configuration. `bind` is given on the command line: the supervisor holds the socket."""

import os
from typing import Any

from service import logs, settings
from service.web.worker import lose_no_signal_at_fork

_settings = settings.read(os.environ)

wsgi_app = "service.wsgi:app"
workers = _settings.web_workers
worker_class = "service.web.worker.Worker"
http_parser = "fast"
logger_class = "service.web.access.AccessLogger"
accesslog = str(_settings.logs / "web.log")
access_log_format = _settings.log_format
loglevel = _settings.log_level

keepalive = 75  # above the upstream keepalive_timeout of a proxy in front (nginx: 60)
graceful_timeout = 30
control_socket_disable = True
worker_tmp_dir = str(_settings.home)


def on_starting(arbiter: Any) -> None:
    logs.keep_output("web", _settings.logs)
    lose_no_signal_at_fork()
