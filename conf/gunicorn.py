"""gunicorn's configuration. `bind` is given on the command line: the supervisor holds the socket."""

import ctypes
import gc
import math
import os
import sys
import time
from contextlib import suppress
from functools import partial
from importlib import import_module
from typing import Any

from service import settings
from service.errors import SandboxError
from service.observe import output
from service.supervise.reload import candidate, wish
from service.web.server import capacity
from service.web.server.worker import Worker, end_at_once, lose_no_signal_at_fork

_settings = settings.read(os.environ)
Worker.grace_seconds = _settings.web_grace_seconds
Worker.partitions = _settings.partitions

wsgi_app = "service.cli.wsgi:app"
workers = _settings.web_workers
worker_class = "service.web.server.worker.Worker"
http_parser = "auto"  # the one in C, where it is installed
logger_class = "service.web.server.access_log.AccessLogger"
accesslog = str(_settings.logs / "web.log")
access_log_format = _settings.log_format
loglevel = _settings.log_level

keepalive = 75  # above the upstream keepalive_timeout of a proxy in front (nginx: 60)
graceful_timeout = math.ceil(_settings.web_grace_seconds) + 5  # the workers are to end by themselves
control_socket_disable = True
forwarder_headers = ""  # with SCRIPT_NAME a client could ask for paths that a proxy does not let pass
worker_tmp_dir = str(_settings.home)


def on_starting(arbiter: Any) -> None:
    output.keep_output("web", _settings.logs)
    lose_no_signal_at_fork()
    capacity.raise_limit()
    if _settings.socket:
        arbiter.systemd = True  # the supervisor's socket: not gunicorn's to unlink
    arbiter.handle_hup = partial(wish.tell, "sandbox", arbiter.log)
    try:
        _import_the_application()
    except Exception:
        arbiter.log.exception("the application cannot be imported")
        sys.exit(arbiter.WORKER_BOOT_ERROR)
    candidate.has_started()


def _import_the_application() -> None:
    """The workers share what is imported before they are forked. Each imports the task types by itself, because those
    may start threads or open connections.

    The collector is off meanwhile: it would find next to nothing, and take 20 ms.
    """
    gc.disable()
    for module in ("service.cli.wiring", "service.web.app", "service.web.auth"):
        import_module(module)
    _give_back()
    gc.freeze()
    gc.enable()


def _give_back() -> None:
    """What the imports needed for a moment, a megabyte. glibc would keep it; other libraries have no such call."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def when_ready(arbiter: Any) -> None:
    candidate.warn_on_terminal()
    candidate.warn_in_folder_too(arbiter.log.error_log)
    import_module("service.cli.wiring").warn_of_workspaces(_settings)


def post_fork(arbiter: Any, worker: Any) -> None:
    candidate.warn_in_folder()
    candidate.begin()


def post_worker_init(worker: Any) -> None:
    _give_back()
    if candidate.folder() is not None:
        worker.prove()
    elif _settings.embedded_redis and not (_settings.sockets / candidate.SERVED).exists():
        _wait_for_redis(worker)
    candidate.wait(worker.cfg.workers, worker.beat)
    with suppress(FileNotFoundError):  # gunicorn without circusd has no such folder
        (_settings.sockets / candidate.SERVED).touch()


def _wait_for_redis(worker: Any) -> None:
    """It is started at the same time, and clients wait at the socket. If it does not come, they are told so."""
    until = time.monotonic() + candidate.REDIS_SECONDS
    while worker.beat() and time.monotonic() < until:
        with suppress(SandboxError):
            worker.wsgi.check_store()
            break
        time.sleep(candidate.LOOK_SECONDS)


def worker_exit(arbiter: Any, worker: Any) -> None:
    candidate.fail()
    ending = sys.exc_info()[1]
    if isinstance(ending, SystemExit) and not ending.code:
        end_at_once()


def child_exit(arbiter: Any, worker: Any) -> None:
    """The arbiter calls it for a worker that was killed, too; that one could not call worker_exit."""
    candidate.fail()


def on_exit(arbiter: Any) -> None:
    """Ends the arbiter quickly if it was told to stop. If it ends for another reason, gunicorn sets the exit code."""
    if isinstance(sys.exc_info()[1], StopIteration):
        end_at_once()
