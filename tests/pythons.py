"""Pythons of this machine beside the one that runs the tests."""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path


def pythons() -> tuple[str, str]:
    """The one in use, and another: of another version, if one is here that starts."""
    candidates = [Path(folder) / f"python3.{minor}" for folder in _folders_of_programs() for minor in range(11, 20)]
    for program in candidates:
        if version(program) not in ("", version(Path(sys.executable))):
            return "python3", str(program)
    return "python3", "/usr/bin/python3"


def _folders_of_programs() -> list[Path]:
    """Those that stand beside a folder of shims, too: what starts is chosen there."""
    path = [Path(folder) for folder in os.environ.get("PATH", os.defpath).split(os.pathsep) if folder]
    return [*path, *(each for folder in path for each in sorted(folder.parent.glob("versions/3.*/bin")))]


def version(program: Path) -> str:
    """Empty unless it starts and can make a virtualenv."""
    words = [program, "-I", "-c", "import ensurepip, sqlite3, sys, venv; print(*sys.version_info[:2])"]
    with suppress(OSError):
        return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()
    return ""
