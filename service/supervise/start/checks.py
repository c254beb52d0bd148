"""What must hold before circusd starts. The release checks itself, in a process of its own (rehearsal.py)."""

import errno
import math
import os
import socket
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

from service.errors import AlreadyRunning, ReleaseBroken, SettingsError
from service.settings import UNIX, Settings, texts
from service.supervise.reload import candidate
from service.supervise.reload import release as releases
from service.supervise.start import handover, listener, orphans, rehearsal, state
from service.supervise.start.environment import SESSION, conf_folder

WEB_ENDS_SECONDS: Final = 5.0  # what gunicorn needs after the grace time, to end its workers
RUNNER_ENDS_SECONDS: Final = 5.0  # what a runner needs after the grace time, to interrupt and to hand back
OF_A_TASK: Final = (SESSION, candidate.VARIABLE, orphans.MARK, orphans.SUPERVISOR, releases.START_FOLDER)


def check(settings: Settings) -> None:
    """Raises an error that says what to change; otherwise the state folder is this process's."""
    _forget_the_task()
    if (given := handover.take()) is not None:
        state.adopt(settings.sockets / "lock", given.lock)
        state.prepare(settings)
        listener.take(given.sockets)
    else:
        check_release(settings)
        state.prepare(settings)
        _take_over(settings)
        state.refuse_foreign_redis(settings)
    if not listener.keeps(settings.bind, settings.port):
        _check_address(settings)


def check_restart(settings: Settings, listening: Collection[listener.Address]) -> None:
    """Raises an error that says what to change, before the circusd that runs is touched."""
    _forget_the_task()
    check_release(settings)
    state.check(settings)
    if listener.address(settings.bind, settings.port) not in listening:
        _check_address(settings)


def _forget_the_task() -> None:
    """If a task of this sandbox, or of another, has typed the command: circusd's processes are not that task's."""
    for name in OF_A_TASK:
        os.environ.pop(name, None)


def _take_over(settings: Settings) -> None:
    """Ends what a killed circusd has left, and keeps its listening socket."""
    if left := orphans.find(settings.home):
        _refuse_living(settings, left)
        listener.keep((orphan.process for orphan in left), settings.bind, settings.port)
        orphans.tell(settings.home, left)
        orphans.end(settings.home, left)


def _refuse_living(settings: Settings, left: Sequence[orphans.Orphan]) -> None:
    if (supervisor := orphans.supervisor(left)) is not None:
        raise AlreadyRunning(
            f"another sandbox (process {supervisor}) runs on {settings.home}, but its folder {settings.sockets} has "
            f"been removed. End that process, and start again."
        )


def check_order(settings: Settings, circus_seconds: Mapping[str, float]) -> None:
    """Circus must wait for longer than a watcher takes to stop; `circus_seconds` says how long it waits for each."""
    for watcher, variable, grace, within in (
        ("sandbox", "SANDBOX_WEB", settings.web_grace_seconds, WEB_ENDS_SECONDS),
        ("sandbox-runner", "SANDBOX_RUNNER", settings.grace_seconds, RUNNER_ENDS_SECONDS),
    ):
        if circus_seconds.get(watcher, math.inf) <= grace + within:
            raise SettingsError(
                f"{variable}_STOP is {circus_seconds[watcher]:g}; it must be above {grace + within:g}: the grace time "
                f"of {grace:g} s and {within:g} s to end. Unset it: the start works it out."
            )


def check_release(settings: Settings) -> str:
    """In a process of its own: none of its code runs in circusd. Prints its warnings, and returns its last word."""
    release = releases.find(settings.release or conf_folder())
    environment = release.environment({**os.environ, **texts(settings)}, os.getcwd())
    try:
        *warnings, last_word = rehearsal.check(
            environment, patience_seconds=settings.reload_seconds, python=release.python, folder=release.path
        )
    except ReleaseBroken as error:
        raise SettingsError(str(error)) from error
    for warning in warnings:
        print(warning, file=sys.stderr)
    return last_word


def _check_address(settings: Settings) -> None:
    if settings.socket:
        _check_socket(Path(settings.socket))
        return
    family = socket.AF_INET6 if ":" in settings.bind else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.bind, settings.port))
        except OSError as error:
            raise SettingsError(_address_problem(settings, error)) from error


def _check_socket(path: Path) -> None:
    """One that is left from a service that was killed is replaced."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except OSError as error:
            if error.errno == errno.ECONNREFUSED and path.is_socket():
                return
            if error.errno == errno.ENOENT and os.access(path.parent, os.W_OK):
                return
            wrong = f"where this user cannot listen: {error.strerror}. It must be a path in a folder that it may write"
        else:
            wrong = "which is in use. Choose another path"
    raise SettingsError(f"SANDBOX_BIND is {UNIX + str(path)!r}, {wrong}.")


def _address_problem(settings: Settings, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"SANDBOX_PORT is {settings.port}, which is in use on {settings.bind}. Choose a free port."
    if error.errno == errno.EACCES:
        return f"SANDBOX_PORT is {settings.port}, which this user may not listen on. Choose one from 1024 up."
    reason = os.strerror(error.errno) if error.errno else str(error)
    return f"SANDBOX_BIND is {settings.bind!r}, where this machine cannot listen: {reason}."
