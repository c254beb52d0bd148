"""Tells on the terminal when the service answers, or what is wrong when it does not.

A forked child, so that circusd stays a program of one thread: it lives until the service is ready
or circusd is gone.
"""

import http.client
import json
import os
import shlex
import signal
import socket
import time
from contextlib import suppress
from typing import Final

from service import __version__
from service.observe import output
from service.settings import DEMO_TASKS, Settings
from service.supervise.reload import candidate
from service.supervise.start import state

PATIENCE_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 0.1
LATER_SECONDS: Final = 5.0  # between looks after the complaint, because each is a line in web.log
ANSWER_SECONDS: Final = 3.0
EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def in_background(settings: Settings) -> None:
    supervisor = os.getpid()
    if os.fork() == 0:
        try:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            state.let_go()
            os.dup2(output.never_waiting(1), 1)
            with suppress(BlockingIOError):  # a terminal that nobody reads
                _announce(settings, supervisor)
        finally:
            os._exit(0)


def _announce(settings: Settings, supervisor: int) -> None:
    pause, complain_at = LOOK_SECONDS, time.monotonic() + PATIENCE_SECONDS
    while _lives(supervisor, pause):
        reason = problem(settings) or _answered_by_another(settings)
        if reason is None:
            print(_welcome(settings), flush=True)
            return
        if time.monotonic() > complain_at:
            pause, complain_at = LATER_SECONDS, float("inf")
            waited = f"sandbox is not ready after {PATIENCE_SECONDS:g} s"
            print(f"{waited}: {reason}. Its logs: {settings.logs}", flush=True)


def _lives(supervisor: int, seconds: float) -> bool:
    """Waits, and returns whether the supervisor still lives; returns at once when it has ended."""
    until = time.monotonic() + seconds
    while os.getppid() == supervisor:
        if time.monotonic() >= until:
            return True
        time.sleep(LOOK_SECONDS)
    return False


def problem(settings: Settings) -> str | None:
    """What keeps the service from being ready, or None."""
    connection = _connection(settings)
    try:
        connection.request("GET", "/health/ready")
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        return f"the web workers do not answer ({error or type(error).__name__})"
    finally:
        connection.close()
    return None if answer.status == 200 else _detail(answer.status, body)


def _answered_by_another(settings: Settings) -> str | None:
    """Of two that start at once on one address, one cannot listen: it has no web worker."""
    is_ours = (settings.sockets / candidate.SERVED).exists()
    return None if is_ours else f"no web worker of it has come up, and another service answers at {settings.url}"


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _connection(settings: Settings) -> http.client.HTTPConnection:
    if settings.socket:
        return UnixConnection(settings.socket, timeout=ANSWER_SECONDS)
    return http.client.HTTPConnection(_host(settings), settings.port, timeout=ANSWER_SECONDS)


def _detail(status: int, body: bytes) -> str:
    """What fails; the detail beside it is advice for clients."""
    try:
        return "; ".join(json.loads(body)["failing"].values()).rstrip(".")
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"/health/ready answers {status}"


def _host(settings: Settings) -> str:
    return EVERYWHERE.get(settings.bind, settings.bind)


def _welcome(settings: Settings) -> str:
    host = _host(settings)
    if settings.socket:
        url = f"--unix-socket {shlex.quote(settings.socket)} http://localhost"
    else:
        url = f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"
    token = "-H 'Authorization: Bearer <token>' " if settings.tokens else ""
    if DEMO_TASKS in settings.tasks:
        call = f"""{url}/tasks -H 'Content-Type: application/json' -d '{{"type": "echo"}}'"""
    else:
        call = f"{url}/types"
    page = f"  page     {settings.page_url}/ui\n" if settings.page_url else ""
    return (
        f"sandbox {__version__} listens on {settings.url}\n"
        f"{page}"
        f"  logs     {settings.logs}\n"
        f"  try      curl {token}{call}\n"
        f"  stop     Ctrl-C"
    )
