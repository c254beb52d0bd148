"""What is replaced in circus, and what is used of circus and gunicorn that their authors may change at any time.

Two tables, checked when a process starts: a version that lacks a name is refused with that name.
"""

import pkgutil
from collections.abc import Iterator
from functools import reduce
from importlib import import_module, metadata
from typing import Any, Final, NamedTuple

from service.errors import SandboxError

_replaced: set[str] = set()


class MissingName(SandboxError):
    """Another version of circus or gunicorn is installed than the one that this code was written for."""


class Name(NamedTuple):
    name: str
    why: str
    ours: str = ""  # a function: it is given what it replaces, and returns what takes its place
    has: tuple[str, ...] = ()  # what it sets, if it is a function; what its __init__ sets, if it is a class


class Vendor(NamedTuple):
    name: str
    version: str
    names: tuple[Name, ...]


CIRCUS: Final = Vendor(
    "circus",
    "0.19.0",
    (
        Name(
            "circus.arbiter:Watcher",
            "a reload is a trial, and what crashes again and again is throttled",
            "service.supervise.watcher:gated",
        ),
        Name(
            "circus.arbiter:Arbiter.manage_watchers",
            "what dies elsewhere while a command waits for processes to end is replaced at once",
            "service.supervise.stopping:manage_watchers",
        ),
        Name(
            "circus.arbiter:Arbiter._stop_watchers",
            "what has the lowest priority is gone before the next is told to stop; stock circus stops all at once",
            "service.supervise.stopping:stop_watchers",
        ),
        Name(
            "circus.sighandler:SysHandler.quit",
            "a signal to stop waits for the command that is running; stock circus drops it",
            "service.supervise.stopping:quit_when_free",
        ),
        Name(
            "circus.sighandler:SysHandler.signal",
            "the audit log names the signal",
            "service.supervise.audited:signal",
        ),
        Name(
            "circus.controller:get_commands",
            "the audit log has each command that changes something",
            "service.supervise.audited:commands",
        ),
        Name(
            "circus.controller:Controller.initialize",
            "the control group may use the socket; circus knows an owner only",
            "service.supervise.loading:open_to_the_control_group",
        ),
        Name(
            "circus.controller:Controller.dispatch",
            "a reload tells whoever asks again and again that the answer is to come",
            "service.supervise.reload_command:dispatch",
        ),
        Name(
            "circus.arbiter:Arbiter.load_from_config",
            "a watcher or socket that cannot be made ends the start; stock circus goes on without it",
            "service.supervise.loading:load_everything",
        ),
        Name(
            "circus.arbiter:Arbiter.initialize",
            "an address that is taken ends the start with exit code 1, not with 0; and a restart adopts processes",
            "service.supervise.loading:initialize_or_exit",
        ),
        Name(
            "circus.sockets:CircusSocket.load_from_config",
            "an empty path is no unix socket's",
            "service.supervise.loading:load_socket",
            has=("_cfg",),
        ),
        Name(
            "circus.sockets:CircusSocket.bind_and_listen",
            "the socket of a circusd that was killed is taken over",
            "service.supervise.start.listener:listen",
        ),
        Name(
            "tornado.ioloop:IOLoop.time",
            "what dies is replaced though somebody puts the clock back; stock circus looks again when it has caught up",
            "service.supervise.loading:time_that_goes_on",
        ),
        Name(
            "circus.circusd:daemonize",
            "a circusd that goes to the background closes the lock of its state folder",
            "service.supervise.loading:stay_in_the_foreground",
        ),
        Name(
            "circus.arbiter:Arbiter",
            "the order of stopping depends on what it does at the moment",
            has=("_exclusive_running_command", "_stopping", "_restarting", "ctrl", "sockets"),
        ),
        Name("circus.arbiter:Arbiter.iter_watchers", "a reload and a stop go through all watchers"),
        Name(
            "circus.arbiter:Arbiter.reap_processes",
            "stock circus drops the code of a process on trial",
            "service.supervise.reaping:reap_processes",
        ),
        Name("circus.controller:Controller.send_response", "see dispatch"),
        Name("circus.controller:Controller._init_syshandler", "a second signal must not end a stop", has=("sys_hdl",)),
        Name("circus.sighandler:SysHandler", "a second signal must not end a stop", has=("_old",)),
        Name("circus.commands.reload:Reload", "`circusctl reload` is the command of the trial"),
        Name("circus.commands.base:Command", "`sandbox restart` tells circusd what to become"),
        Name(
            "circus.process:Process",
            "a process of a watcher; a restart adopts those that run",
            has=("_worker", "started"),
        ),
        Name("circus.watcher:Watcher", "what clients connect to is replaced with care", has=("use_sockets",)),
        Name("circus.util:parse_env_dict", "circus takes a $NAME inside a value for a variable"),
        Name("circus.util:replace_gnu_args", "the option cmd names parts of the release"),
        *(
            Name(f"circus.watcher:Watcher.{name}", "a watcher whose reload is a trial overrides or calls it")
            for name in (
                "_nextwid",
                "_process_class",
                "_reload",
                "_start",
                "_stop",
                "is_active",
                "is_stopping",
                "manage_processes",
                "notify_event",
                "reap_process",
                "spawn_process",
                "spawn_processes",
                "status",
            )
        ),
    ),
)

GUNICORN: Final = Vendor(
    "gunicorn",
    "27.0.1",
    (
        Name("gunicorn.app.wsgiapp:run", "it is started as a part of this program"),
        Name("gunicorn.arbiter:Arbiter.WORKER_BOOT_ERROR", "a worker that is not ready ends its arbiter"),
        Name("gunicorn.arbiter:Arbiter.handle_hup", "HUP asks the supervisor for a reload"),
        Name("gunicorn.arbiter:Arbiter", "it must not unlink the supervisor's unix socket", has=("systemd",)),
        Name("gunicorn.workers.ggevent:GeventWorker.handle_request", "it calls the application"),
        Name("gunicorn.workers.ggevent:GeventResponse", "requests that are refused are logged like others"),
        Name("gunicorn.workers.base:Worker", "its end", has=("alive", "ppid", "sockets", "cfg", "log")),
        Name("gunicorn.workers.base:Worker.notify", "it is called without the gevent worker's own end"),
        Name("gunicorn.workers.base:Worker.handle_exit", "a signal to stop wakes the worker"),
        Name("gunicorn.http.parser:RequestParser", "requests are read against a deadline"),
        Name("gunicorn.http.unreader:Unreader", "see RequestParser", has=("buf",)),
        Name("gunicorn.http.unreader:SocketUnreader.chunk", "see RequestParser"),
        Name("gunicorn.http.message:Request._expected_100_continue", "a body that is too large is not asked for"),
        Name("gunicorn.http.message:Request.force_close", "a body that is too large is not read to its end"),
        Name("gunicorn.http.body:Body", "a body is read before the application is called", has=("reader",)),
        Name("gunicorn.http.body:LengthReader", "a body is read before the application is called", has=("length",)),
        Name("gunicorn.http.errors:ParseException", "what is no request is answered with a problem"),
        Name("gunicorn.glogging:Logger.access", "a request is one JSON line"),
        Name("gunicorn.glogging:Logger.LOG_LEVELS", "gunicorn's own words go through Python's logging"),
        Name("gunicorn.glogging:Logger", "see LOG_LEVELS", has=("error_log",)),
    ),
)


def check(vendor: Vendor) -> None:
    for name in vendor.names:
        for missing in _missing(name):
            raise MissingName(
                f"{vendor.name} {metadata.version(vendor.name)} has no {missing}, which sandbox needs ({name.why}). "
                f"Install {vendor.name} {vendor.version}."
            )


def _missing(name: Name) -> Iterator[str]:
    try:
        found: Any = pkgutil.resolve_name(name.name)
    except (ImportError, AttributeError):
        yield name.name
        return
    code = getattr(getattr(found, "__init__") if isinstance(found, type) else found, "__code__", None)  # noqa: B009
    for attribute in name.has:
        if code is None or attribute not in code.co_names:
            yield f"{name.name}.{attribute}"


def replace(vendor: Vendor) -> None:
    for name in vendor.names:
        if name.ours:
            owner, last = _place(name)
            setattr(owner, last, pkgutil.resolve_name(name.ours)(getattr(owner, last)))
    _replaced.add(vendor.name)


def is_replaced(vendor: Vendor) -> bool:
    return vendor.name in _replaced


def _place(name: Name) -> tuple[Any, str]:
    module, _, path = name.name.partition(":")
    *owners, last = path.split(".")
    return reduce(getattr, owners, import_module(module)), last
