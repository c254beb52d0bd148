"""The variables that circus.ini and circusctl need: the settings, and what follows from them.

Circus leaves an unset $(circus.env.X) as it is, so every one of them must be there.
"""

import ipaddress
import os
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from service.settings import UNIX, Settings, texts

SESSION: Final = "SANDBOX_SESSION"
RUNNER_MARGIN_SECONDS: Final = 10.0
WEB_MARGIN_SECONDS: Final = 15.0


def conf_folder() -> Path:
    """Holds circus.ini and conf/: inside the installed package, or the source tree around it."""
    package = Path(__file__).resolve().parents[2]
    packed = package / "_conf"
    return packed if packed.is_dir() else package.parent


def variables(settings: Settings) -> dict[str, str]:
    return {
        **texts(settings),
        "SANDBOX_RELEASE": str(settings.release or conf_folder()),
        "SANDBOX_PATH": str(conf_folder()),
        "SANDBOX_PYTHON": sys.executable,
        "SANDBOX_FAMILY": "AF_INET6" if _is_version_6(settings.bind) else "AF_INET",
        "SANDBOX_REDIS_SERVERS": "1" if settings.embedded_redis else "0",
        "SANDBOX_REDIS_SYNCS": "1" if settings.embedded_redis and settings.fsync == "everysec" else "0",
        "SANDBOX_SOCKET": settings.socket,
        "SANDBOX_WEB_STOP": f"{settings.web_grace_seconds + WEB_MARGIN_SECONDS:g}",
        "SANDBOX_OBSERVERS": "1" if settings.observed else "0",
        "SANDBOX_RUNNER_STOP": f"{settings.grace_seconds + RUNNER_MARGIN_SECONDS:g}",
        "CIRCUSCTL_ENDPOINT": f"ipc://{settings.sockets / 'control.sock'}",
    }


def name_session() -> None:
    """For a runner: what it starts may leave its session, and is told by this (orphans.py)."""
    os.environ[SESSION] = str(os.getsid(0))


def exports(settings: Settings, environment: Mapping[str, str]) -> str:
    """Lines for a shell. They also put the programs of this installation on the PATH."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in variables(settings).items()]
    programs = str(Path(sys.executable).parent)
    if programs not in environment.get("PATH", "").split(os.pathsep):
        lines.append(f'export PATH={shlex.quote(programs)}"${{PATH:+:$PATH}}"')
    return "\n".join(lines)


def _is_version_6(bind: str) -> bool:
    return bind != "localhost" and not bind.startswith(UNIX) and ipaddress.ip_address(bind).version == 6
