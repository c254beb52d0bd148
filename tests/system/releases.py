"""Releases as folders: copies of this source, each with what a test wants changed, and the link to the current one."""

import shutil
import sys
from pathlib import Path

from tests.system.instance import ROOT

NOT_COPIED = shutil.ignore_patterns("*.pyc.*")  # which a Python is writing


class Release:
    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def at(cls, path: Path) -> "Release":
        if not path.exists():
            for name in ("service", "conf"):
                shutil.copytree(ROOT / name, path / name, ignore=NOT_COPIED)
            shutil.copy(ROOT / "circus.ini", path)
        return cls(path)

    def add(self, file: str, lines: str) -> "Release":
        with open(self.path / file, "a") as text:
            text.write(f"\n{lines}\n")
        return self

    def change(self, file: str, old: str, new: str) -> "Release":
        text = (self.path / file).read_text()
        assert old in text
        (self.path / file).write_text(text.replace(old, new))
        return self

    def with_interpreter(self) -> Path:
        """One of its own, which leaves a mark when it is called."""
        python = self.path / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f'#!/bin/sh\ntouch "{self.path}/called"\nexec {sys.executable} "$@"\n')
        python.chmod(0o755)
        return python

    def named(self, mark: str) -> "Release":
        """Its readiness tells which it is."""
        return self.change(
            "service/web/api/health.py", '{"status": "ready"} |', f'{{"status": "ready", "mark": "{mark}"}} |'
        )


class Releases:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.link = folder / "current"

    def make(self, name: str) -> Release:
        return Release.at(self._folder / name)

    def switch(self, release: Release) -> None:
        """As deploy tools do it: the link is never missing."""
        beside = self._folder / "current.new"
        beside.symlink_to(release.path)
        beside.replace(self.link)
