"""What must hold before circusd starts; `sandbox run` and plain circusd both ask."""

import errno
import functools
import os
import socket
import subprocess
import sys

from service import sentry
from service.errors import SandboxError, SettingsError
from service.settings import Settings, texts
from service.supervise import state


def check(settings: Settings) -> None:
    """Raises an error that says what to change; otherwise the state folder is this process's."""
    _check_tokens(settings)
    _check_errors(settings)
    _check_tasks(settings)
    state.prepare(settings)
    _check_address(settings)


def _check_tokens(settings: Settings) -> None:
    if settings.tokens is None:
        if not settings.on_loopback:
            raise SettingsError(
                f"SANDBOX_BIND is {settings.bind!r}; without SANDBOX_TOKENS only loopback (127.0.0.1, ::1, localhost) "
                f"is allowed. Set SANDBOX_TOKENS to a file, and make a token: `sandbox token add NAME --scope write`."
            )
        return
    from service.web import tokens

    try:
        found = tokens.read(settings.tokens)
    except (OSError, ValueError, SandboxError) as error:
        raise SettingsError(f"SANDBOX_TOKENS is {str(settings.tokens)!r}, which cannot be used: {error}.") from error
    if not found:
        raise SettingsError(
            f"SANDBOX_TOKENS is {str(settings.tokens)!r}, which holds no token. "
            f"Make one with `sandbox token add NAME --scope write`."
        )


def _check_errors(settings: Settings) -> None:
    if settings.sentry_dsn:
        sentry.check(settings.sentry_client)


@functools.cache
def _check_tasks(settings: Settings) -> None:
    """In a process of its own: circusd is to run none of their code."""
    environment = {**os.environ, **texts(settings)}
    words = [sys.executable, "-m", "service.cli", "types"]
    found = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    if found.returncode:
        *_, reason = found.stderr.strip().splitlines() or [f"exit code {found.returncode}"]
        raise SettingsError(reason.removeprefix("sandbox: "))
    queues = {line.partition("\t")[2] for line in found.stdout.splitlines()}
    for queue in sorted(queues.difference(settings.queues)):
        print(f"sandbox: SANDBOX_QUEUES does not name {queue!r}, where types have their tasks wait.", file=sys.stderr)


def _check_address(settings: Settings) -> None:
    family = socket.AF_INET6 if ":" in settings.bind else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.bind, settings.port))
        except OSError as error:
            raise SettingsError(_address_problem(settings, error)) from error


def _address_problem(settings: Settings, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"SANDBOX_PORT is {settings.port}, which is in use on {settings.bind}. Choose a free port."
    if error.errno == errno.EACCES:
        return f"SANDBOX_PORT is {settings.port}, which this user may not listen on. Choose one from 1024 up."
    reason = os.strerror(error.errno) if error.errno else str(error)
    return f"SANDBOX_BIND is {settings.bind!r}, where this machine cannot listen: {reason}."
