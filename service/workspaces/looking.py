"""What is there of a workspace, seen in its files. Nothing is run. The standard library alone, as in places.py."""

import hashlib
import os
from pathlib import Path
from typing import Any, Final

from service.workspaces.places import Home

REQUIREMENTS: Final = ("requirements.lock", "requirements.txt")  # the first that is there counts
MARK: Final = "requirements.sha256"  # in a virtualenv: what it was made for
LINES: Final = 20
NOTHING: Final = "none"  # instead of a hash: the project requires nothing


def look(home: Home) -> dict[str, Any]:
    """The members of hands.Facts that stand in files."""
    return {
        "folders": all(path.is_dir() for path in (home.venvs, home.data, home.log)),
        "sha": head(home.code)[1],
        "branch": head(home.code)[0],
        "requirements": required(home),
        "venvs": {int(path.name): _text(path / MARK) for path in _whole_venvs(home)},
        "venv": _linked_venv(home),
        "database": home.database.exists(),
        "env": home.env.is_file(),
        "media": home.media.is_symlink(),
        "django": (home.code / "manage.py").is_file(),
    }


def requirements_file(home: Home) -> Path | None:
    return next((home.code / name for name in REQUIREMENTS if (home.code / name).is_file()), None)


def required(home: Home) -> str:
    """The hash of what the project requires; an empty text without a clone."""
    if not (home.code / ".git").is_dir():
        return ""
    file = requirements_file(home)
    return NOTHING if file is None else hashlib.sha256(file.read_bytes()).hexdigest()


def head(code: Path) -> tuple[str, str]:
    """The branch and the commit that a clone is at; empty texts where there is none."""
    told = _text(code / ".git" / "HEAD")
    if not told.startswith("ref: "):
        return "", told
    name = told.removeprefix("ref: ")
    return name.removeprefix("refs/heads/"), _text(code / ".git" / name) or _packed(code, name)


def disk_mb(home: Home) -> int:
    total = 0
    for folder, _, files in os.walk(home.path):
        for name in files:
            try:
                total += os.lstat(os.path.join(folder, name)).st_blocks * 512
            except OSError:
                continue
    return total // 2**20


def last_used(home: Home) -> float | None:
    """The web process writes a line for each request, or touches the file."""
    try:
        return (home.log / "access.log").stat().st_mtime
    except OSError:
        return None


def end_of_log(home: Home) -> str:
    return "\n".join(_text(home.log / "web.log").splitlines()[-LINES:])


def _packed(code: Path, name: str) -> str:
    for line in _text(code / ".git" / "packed-refs").splitlines():
        sha, _, ref = line.partition(" ")
        if ref == name:
            return sha
    return ""


def _whole_venvs(home: Home) -> list[Path]:
    """freeze.txt is written last."""
    folders = home.venvs.iterdir() if home.venvs.is_dir() else ()
    return [path for path in folders if path.name.isdigit() and (path / "freeze.txt").is_file()]


def _linked_venv(home: Home) -> int:
    try:
        name = os.path.basename(os.readlink(home.venv))
    except OSError:
        return 0
    return int(name) if name.isdigit() else 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
