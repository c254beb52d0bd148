"""Whose a process is: by the mark in its environment, or by the folder that it works in."""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

MARK: Final = "SANDBOX_WORKSPACE_HOME"
WEB_MARK: Final = "SANDBOX_WORKSPACE_WEB"
ALL: Final = "all"
WEB: Final = "web"  # what serves
STEPS: Final = "steps"  # what an action runs


def marked(folder: Path, which: str = ALL) -> list[int]:
    """The processes of workspaces at or below a folder, by their environment; of all kinds, also by where they work."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            environment = process.environ()
            is_of_it = _is_inside(environment.get(MARK, ""), folder)
            if which == ALL:
                is_of_it = is_of_it or _is_inside(process.cwd(), folder)
            else:
                is_of_it = is_of_it and (WEB_MARK in environment) == (which == WEB)
            if is_of_it and process.pid != os.getpid() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def _is_inside(path: str, folder: Path) -> bool:
    return f"{path}/".startswith(f"{folder}/")
