"""The variables that circus.ini needs, the settings and what follows from them; and those that a shell needs.

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
HOW_TO_START: Final = "SANDBOX_IS_STARTED_BY_sandbox_run_OR_sandbox_circusd"  # what circusd misses first, and shows
CHECK_SECONDS: Final = 1.0
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
        "CIRCUSCTL_ENDPOINT": _control_socket(settings),
        HOW_TO_START: f"{CHECK_SECONDS:g}",
    }


def name_session() -> None:
    """For a runner: what it starts may leave its session, and is told by this (orphans.py)."""
    os.environ[SESSION] = str(os.getsid(0))


def exports(settings: Settings, environment: Mapping[str, str], program: Path) -> str:
    """Lines for a shell: what circusctl needs, and what is set already. A default would look as if it were set.

    They also put the programs of this installation on the PATH, by the folder that this one was called in: that may be
    a link, which leads to the next release later.
    """
    given = {name: text for name, text in texts(settings).items() if name in environment}
    wanted = given | {"SANDBOX_HOME": str(settings.home), "CIRCUSCTL_ENDPOINT": _control_socket(settings)}
    lines = [f"export {name}={shlex.quote(value)}" for name, value in wanted.items()]
    programs = str(_programs(program.absolute().parent))
    if programs not in environment.get("PATH", "").split(os.pathsep):
        lines.append(f'export PATH={shlex.quote(programs)}"${{PATH:+:$PATH}}"')
    return "\n".join(lines)


def _programs(called_in: Path) -> Path:
    """`python -m service.cli` is called in a folder that holds no programs."""
    installed = Path(sys.executable).parent
    return called_in if os.path.realpath(called_in) == os.path.realpath(installed) else installed


def _control_socket(settings: Settings) -> str:
    return f"ipc://{settings.sockets / 'control.sock'}"


def _is_version_6(bind: str) -> bool:
    return bind != "localhost" and not bind.startswith(UNIX) and ipaddress.ip_address(bind).version == 6
