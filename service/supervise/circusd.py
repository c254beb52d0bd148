"""Changes to circusd, made by its logging configuration (conf/circusd-log.json).

That file is what circusd loads before anything else, and it does not start without it, so this works
under `sandbox run` and under plain circusd, and nobody gets a circusd that lacks one of these:

- Stopping goes by priority: what has the lowest is gone before the next is told (stock: all at once).
- A signal to stop waits for the command that is running (stock: it is dropped), but for none that only waits itself.
- While a command waits for processes to end, what dies elsewhere is replaced (stock: when they have ended).
- A reload is a trial, and what crashes again and again is throttled (watcher.py, command.py).
- A watcher or socket that cannot be made, or an address that is taken, ends the start (stock: a
  warning in the log; exit code 0).
"""

import itertools
import logging
import os
import shutil
import signal
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any, Final

from circus import arbiter as arbiters
from circus.arbiter import Arbiter
from circus.config import get_config
from circus.controller import Controller
from circus.exc import ConflictError
from circus.sighandler import SysHandler
from circus.sockets import CircusSocket
from tornado import gen

from service import settings
from service.errors import SandboxError
from service.observe import log_file, logs, output
from service.settings import Settings
from service.supervise import reload_command
from service.supervise.reload.release import Supervisor
from service.supervise.reload.trial import end_group
from service.supervise.start import checks, environment
from service.supervise.watcher import GatedWatcher

LOOK_SECONDS: Final = 0.05
WAITING: Final = ("watcher_stop", "watcher_restart", "arbiter_stop_watchers", "arbiter_restart")

_manage_watchers = Arbiter.manage_watchers
_load_from_config = Arbiter.load_from_config.__func__
_initialize = Arbiter.initialize
_load_socket = CircusSocket.load_from_config.__func__


def log_handler() -> logging.Handler:
    """Called by circusd's logging configuration: checks the start, changes circusd, gives it its log."""
    try:
        read = settings.read(os.environ)
        checks.check(read)
    except SandboxError as error:
        raise SystemExit(f"sandbox: {error}") from error
    install(read)
    file = log_file.LogFile(read.logs / "circus.log")
    handler = logs.LineHandler(logs.Log(file, read.log_level, read.log_format), "circusd")
    handler.addFilter(_is_news)
    return handler


def terminal_handler() -> logging.Handler:
    output.keep_terminal()
    handler = output.Terminal()
    handler.setFormatter(_Brief("circusd: %(message)s"))
    handler.addFilter(_is_news)
    return handler


class _Brief(logging.Formatter):
    """An exception in one line; the log has the rest."""

    def formatException(self, ei: Any) -> str:
        return str(ei[1]).strip().rpartition("\n")[2]


def _is_news(record: logging.LogRecord) -> bool:
    """The check that circusd makes each second gives way to a running command, and logs that as an error."""
    return not (record.exc_info and isinstance(record.exc_info[1], ConflictError))


def install(read: Settings) -> None:
    for name in ("trial", "throttled"):  # of a circusd that was killed
        shutil.rmtree(read.sockets / name, ignore_errors=True)
    GatedWatcher.folder = read.sockets
    GatedWatcher.patience_seconds = read.reload_seconds
    reload_command.Reload.supervisor = Supervisor(environment.conf_folder())
    arbiters.Watcher = GatedWatcher
    Controller.dispatch = reload_command.dispatch
    CircusSocket.load_from_config = classmethod(_load_any_socket)
    Arbiter.manage_watchers = _manage_all_or_others
    Arbiter._stop_watchers = _stop_in_order
    Arbiter.load_from_config = classmethod(_load_everything)
    Arbiter.initialize = _initialize_or_exit
    SysHandler.quit = _quit


async def _manage_all_or_others(arbiter: Any) -> None:
    """Whom a command waits for is stopping or starting; the others are active."""
    if arbiter._exclusive_running_command not in WAITING:
        await _manage_watchers(arbiter)
    elif not arbiter._stopping:
        arbiter.reap_processes()
        await gen.multi([watcher.manage_processes() for watcher in arbiter.iter_watchers() if watcher.is_active()])


async def _stop_in_order(
    arbiter: Any, close_output_streams: bool = False, watcher_iter_func: Callable[..., Iterable[Any]] | None = None
) -> None:
    """Web, then runners, then Redis: nobody loses what is still needed to end in peace."""
    watchers = (watcher_iter_func or arbiter.iter_watchers)(reverse=False)
    for _, group in itertools.groupby(watchers, key=attrgetter("priority")):
        stopping = list(group)
        leaders = [pid for watcher in stopping for pid in watcher.processes]
        await gen.multi([watcher._stop(close_output_streams) for watcher in stopping])
        for pid in leaders:
            end_group(pid)


def _quit(handler: Any) -> None:
    handler.controller.loop.add_callback_from_signal(_stop_when_free, handler.controller.arbiter)


async def _stop_when_free(arbiter: Any) -> None:
    arbiter._restarting = False
    if arbiter._stopping:
        return
    arbiter._stopping = True
    output.say("sandbox is stopping: web, then runners, then Redis")
    while not _is_free(arbiter):
        await gen.sleep(LOOK_SECONDS)
    arbiter._exclusive_running_command = None
    for signum in (signal.SIGINT, signal.SIGTERM):
        arbiter.ctrl.sys_hdl._old[signum] = signal.SIG_IGN
    await arbiter.stop()


def _is_free(arbiter: Any) -> bool:
    if arbiter._exclusive_running_command in WAITING:
        return all(watcher.status() != "starting" for watcher in arbiter.watchers)
    return arbiter._exclusive_running_command is None


def _load_everything(kind: Any, config_file: str, loop: Any = None) -> Any:
    arbiter = _load_from_config(kind, config_file, loop)
    config = get_config(config_file)
    _refuse_missing("watcher", config["watchers"], {watcher.name for watcher in arbiter.watchers})
    _refuse_missing("socket", config["sockets"], set(arbiter.sockets))
    try:
        checks.check_order(
            settings.read(os.environ), {watcher.name: watcher.graceful_timeout for watcher in arbiter.watchers}
        )
    except SandboxError as error:
        raise SystemExit(f"sandbox: {error}") from error
    return arbiter


def _load_any_socket(kind: Any, config: dict[str, Any]) -> Any:
    """An empty path is none; circus would take it for a unix socket's."""
    found = _load_socket(kind, {name: value for name, value in config.items() if name != "path" or value})
    found._cfg = config.copy()
    return found


def _refuse_missing(kind: str, wanted: Iterable[dict[str, Any]], made: set[str]) -> None:
    for name in sorted({section["name"] for section in wanted} - made):
        raise SystemExit(f"sandbox: circusd could not make the {kind} {name}; the reason stands above.")


def _initialize_or_exit(arbiter: Any) -> None:
    try:
        _initialize(arbiter)
    except OSError as error:
        raise SystemExit(f"sandbox: circusd could not listen: {error}") from error
