"""Tells on the terminal when the service answers, or what is wrong when it does not.

A forked child, so that circusd stays a program of one thread: it lives until the service is ready
or circusd is gone.
"""

import http.client
import json
import os
import signal
import time
from typing import Final

from service import __version__
from service.settings import DEMO_TASKS, Settings
from service.supervise import state

PATIENCE_SECONDS: Final = 10.0
LOOK_SECONDS: Final = 0.1
EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}


def in_background(settings: Settings) -> None:
    supervisor = os.getpid()
    if os.fork() == 0:
        try:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            state.let_go()
            _announce(settings, supervisor)
        finally:
            os._exit(0)


def _announce(settings: Settings, supervisor: int) -> None:
    complain_at = time.monotonic() + PATIENCE_SECONDS
    while os.getppid() == supervisor:
        problem = _problem(settings)
        if problem is None:
            print(_welcome(settings), flush=True)
            return
        if time.monotonic() > complain_at:
            complain_at = float("inf")
            waited = f"sandbox is not ready after {PATIENCE_SECONDS:g} s"
            print(f"{waited}: {problem}. Its logs: {settings.logs}", flush=True)
        time.sleep(LOOK_SECONDS)


def _problem(settings: Settings) -> str | None:
    connection = http.client.HTTPConnection(_host(settings), settings.port, timeout=3)
    try:
        connection.request("GET", "/health/ready")
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        return f"the web workers do not answer ({error or type(error).__name__})"
    finally:
        connection.close()
    return None if answer.status == 200 else _detail(answer.status, body)


def _detail(status: int, body: bytes) -> str:
    try:
        return str(json.loads(body)["detail"]).rstrip(".")
    except (ValueError, KeyError, TypeError):
        return f"/health/ready answers {status}"


def _host(settings: Settings) -> str:
    return EVERYWHERE.get(settings.bind, settings.bind)


def _welcome(settings: Settings) -> str:
    host = _host(settings)
    url = f"http://[{host}]:{settings.port}" if ":" in host else f"http://{host}:{settings.port}"
    token = "-H 'Authorization: Bearer <token>' " if settings.tokens else ""
    if DEMO_TASKS in settings.tasks:
        call = f"""{url}/tasks -H 'Content-Type: application/json' -d '{{"type": "echo"}}'"""
    else:
        call = f"{url}/types"
    return (
        f"sandbox {__version__} listens on {settings.url}\n"
        f"  logs     {settings.logs}\n"
        f"  try      curl {token}{call}\n"
        f"  stop     Ctrl-C"
    )
