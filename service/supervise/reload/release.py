"""A release: a folder with the code, and perhaps a virtualenv of its own in .venv.

SANDBOX_RELEASE names it, usually by a link. Its real path is kept: the link may lead to another release later.
"""

import hashlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from service.errors import SandboxError

CONFIGURATION: Final = Path("conf", "gunicorn.py")
CODE: Final = Path("service", "cli", "wsgi.py")
START_FOLDER: Final = "SANDBOX_STARTED_IN"
ELSEWHERE: Final = ("service.web", "service.cli")


class NoRelease(SandboxError):
    """SANDBOX_RELEASE names no folder that could be started."""


@dataclass(frozen=True)
class Release:
    path: Path
    python: Path
    base: Path

    @property
    def words(self) -> dict[str, str]:
        """The values of $(circus.release.…) in circus.ini."""
        return {"path": str(self.path), "python": str(self.python), "conf": str(self.base / "conf")}

    def environment(self, given: Mapping[str, str], start_folder: str) -> dict[str, str]:
        """For its processes. The folder that the service was started in may hold task modules (cli/task_modules.py)."""
        paths = [str(self.path) if holds_code(self.path) else "", given.get("PYTHONPATH", "")]
        found_first = os.pathsep.join(filter(None, paths))
        return {**given, "PYTHONPATH": found_first, START_FOLDER: start_folder, "PWD": str(self.path)}

    def __str__(self) -> str:
        return str(self.path)


def find(name: Path) -> Release:
    path = Path(os.path.realpath(name))  # Path.resolve raises for a link to itself
    if not path.is_dir():
        raise NoRelease(f"SANDBOX_RELEASE is {str(name)!r}, which is not a folder")
    own = path / ".venv" / "bin" / "python"
    installed = path.glob(".venv/lib/python*/site-packages/service/_conf")
    for base in (path, *installed) if holds_code(path) else (*installed, path):
        if (base / CONFIGURATION).is_file():
            return Release(path, own if own.exists() else Path(sys.executable), base)
    raise NoRelease(f"SANDBOX_RELEASE is {str(name)!r}, which holds no release: {CONFIGURATION} is missing")


def holds_code(folder: Path) -> bool:
    """Is that ours? A team may have a folder `service` of its own."""
    return (folder / CODE).is_file()


class Supervisor:
    """The files that circusd was started with, to be compared with those of a release."""

    def __init__(self, base: Path) -> None:
        package = Path(__file__).parents[2]
        self._modules = [path.relative_to(package) for path in _loaded()]
        self._had = self._contents(base, package, metadata.version("circus"))

    def differences(self, release: Release) -> list[str]:
        """Returns the files that differ: circusd takes them only when it is started anew."""
        has = self._contents(release.base, _package(release), _circus(release))
        return sorted(name for name in self._had if has[name] != self._had[name])

    def _contents(self, base: Path, package: Path, circus: str) -> dict[str, str]:
        files = {f"service/{module}": package / module for module in self._modules}
        files |= {name: base / name for name in ("circus.ini", "conf/circusd-log.json")}
        return {name: _digest(file) for name, file in files.items()} | {"circus": circus}


def _loaded() -> Iterator[Path]:
    for name, module in sorted(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and name.startswith("service.") and not name.startswith(ELSEWHERE):
            yield Path(file)


def _package(release: Release) -> Path:
    """Where the processes of a release find `service`."""
    folders = [release.path, *release.path.glob(".venv/lib/python*/site-packages")]
    return next((folder / "service" for folder in folders if holds_code(folder)), Path(__file__).parents[2])


def _digest(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return "missing"


def _circus(release: Release) -> str:
    """The version of circus that the release would run under."""
    folders = [str(path) for path in release.path.glob(".venv/lib/python*/site-packages")]
    found = next(iter(metadata.distributions(name="circus", path=folders or sys.path)), None)
    return found.version if found else "missing"
