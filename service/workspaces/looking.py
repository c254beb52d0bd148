"""What is there of a workspace, seen in its files. Nothing is run. The standard library alone, as in places.py.

The files are a stranger's: whatever they are, looking at them comes to its end and raises nothing.
"""

import hashlib
import os
import re
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from service.workspaces.places import Home

REQUIREMENTS: Final = ("requirements.lock", "requirements.txt")  # the first that is there counts
MARK: Final = "requirements.sha256"  # in a virtualenv: what it was made for
NUMBER: Final = re.compile(r"[1-9][0-9]{0,5}", re.ASCII)
LINES: Final = 20
SMALL: Final = 64 * 1024
LARGE: Final = 16 * 1024 * 1024  # what a project requires, and the refs of a large one
NOTHING: Final = "none"  # instead of a hash: the project requires nothing


def look(home: Home) -> dict[str, Any]:
    """The members of hands.Facts that stand in files."""
    return {
        "folders": all(os.path.isdir(path) for path in (home.venvs, home.data, home.log)),
        "code": os.path.lexists(home.code),
        "sha": head(home.code)[1],
        "branch": head(home.code)[0],
        "requirements": required(home),
        "venvs": {int(path.name): _text(path / MARK) for path in _whole_venvs(home)},
        "venv": _linked_venv(home),
        "database": os.path.exists(home.database),
        "env": os.path.isfile(home.env),
        "media": os.path.islink(home.media),
        "django": os.path.isfile(home.code / "manage.py"),
    }


def requirements_file(home: Home) -> Path | None:
    return next((home.code / name for name in REQUIREMENTS if os.path.isfile(home.code / name)), None)


def required(home: Home) -> str:
    """The hash of what the project requires; an empty text without a clone."""
    if not os.path.isdir(home.code / ".git"):
        return ""
    file = requirements_file(home)
    return NOTHING if file is None else hashlib.sha256(_bytes(file, LARGE, follow=True)).hexdigest()


def head(code: Path) -> tuple[str, str]:
    """The branch and the commit that a clone is at; empty texts where there is none."""
    told = _text(code / ".git" / "HEAD")
    if not told.startswith("ref: "):
        return "", told
    name = told.removeprefix("ref: ")
    return name.removeprefix("refs/heads/"), _text(code / ".git" / name) or _packed(code, name)


def disk_mb(home: Home) -> int:
    """Folders may lie in one another a thousand deep: os.walk calls itself for each before Python 3.12."""
    total, folders = 0, [os.fspath(home.path)]
    while folders:
        with suppress(OSError), os.scandir(folders.pop()) as found:
            for each in found:
                if each.is_dir(follow_symlinks=False):
                    folders.append(each.path)
                else:
                    with suppress(OSError):
                        total += each.stat(follow_symlinks=False).st_blocks * 512
    return total // 2**20


def last_used(home: Home) -> float | None:
    """The web process writes a line for each request, or touches the file."""
    try:
        return (home.log / "access.log").stat().st_mtime
    except OSError:
        return None


def end_of_log(home: Home) -> str:
    return "\n".join(_decoded(_bytes(home.log / "web.log", SMALL, end=True)).splitlines()[-LINES:])


def _packed(code: Path, name: str) -> str:
    for line in _decoded(_bytes(code / ".git" / "packed-refs", LARGE)).splitlines():
        sha, _, ref = line.partition(" ")
        if ref == name:
            return sha
    return ""


def _whole_venvs(home: Home) -> list[Path]:
    """freeze.txt is written last."""
    try:
        names = os.listdir(home.venvs)
    except OSError:
        return []
    numbered = [home.venvs / name for name in names if NUMBER.fullmatch(name)]
    return [path for path in numbered if os.path.isfile(path / "freeze.txt")]


def _linked_venv(home: Home) -> int:
    try:
        name = os.path.basename(os.readlink(home.venv))
    except OSError:
        return 0
    return int(name) if NUMBER.fullmatch(name) else 0


def _text(path: Path) -> str:
    return _decoded(_bytes(path, SMALL))


def _decoded(read: bytes) -> str:
    return read.decode(errors="replace").strip()


def _bytes(path: Path, most: int, *, end: bool = False, follow: bool = False) -> bytes:
    """Of a regular file that is no larger, or its end; nothing of anything else."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW))
    except (OSError, ValueError):
        return b""
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or (found.st_size > most and not end):
            return b""
        os.lseek(descriptor, max(0, found.st_size - most), os.SEEK_SET)
        return os.read(descriptor, most)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
