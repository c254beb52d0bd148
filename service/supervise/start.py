"""What must hold before circusd starts; `sandbox run` and plain circusd both ask."""

import errno
import os
import socket

from service.errors import SandboxError, SettingsError
from service.settings import Settings
from service.supervise import state


def check(settings: Settings) -> None:
    """Raises an error that says what to change; otherwise the state folder is this process's."""
    _check_tokens(settings)
    state.prepare(settings)
    _check_address(settings)


def _check_tokens(settings: Settings) -> None:
    if settings.tokens is None:
        if not settings.on_loopback:
            raise SettingsError(
                f"SANDBOX_BIND is {settings.bind!r}; without SANDBOX_TOKENS only loopback (127.0.0.1, ::1, localhost) "
                f"is allowed. Make a token with `sandbox token add NAME --scope write`."
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
