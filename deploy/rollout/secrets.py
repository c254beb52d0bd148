"""The values of a stage's secrets: from the operator's environment, a file or a command, at the moment of their use.

They leave this machine on the standard input of a script only, and are never printed.
"""

import os
import subprocess
from pathlib import Path
from typing import Final

from rollout.errors import UsageError
from rollout.stage import UNQUOTABLE, Stage

COMMAND_SECONDS: Final = 60


def read(stage: Stage) -> dict[str, str]:
    return {name: read_one(name, source, stage.project) for name, source in stage.secrets.items()}


def read_one(name: str, source: str, folder: Path) -> str:
    kind, _, where = source.partition(":")
    try:
        value = _find(kind, where, folder).rstrip("\n")
    except (OSError, KeyError, subprocess.SubprocessError) as error:
        raise UsageError(f"the secret {name} cannot be read from {source} ({type(error).__name__})") from None
    if not value or UNQUOTABLE.search(value):
        raise UsageError(
            f"the secret {name} from {source} is empty, or has a quote, a backslash or a control character in it"
        )
    return value


def _find(kind: str, where: str, folder: Path) -> str:
    if kind == "env":
        return os.environ[where]
    if kind == "file":
        return (folder / Path(where).expanduser()).read_text()
    done = subprocess.run(where, shell=True, cwd=folder, capture_output=True, text=True, timeout=COMMAND_SECONDS)
    done.check_returncode()
    return done.stdout
