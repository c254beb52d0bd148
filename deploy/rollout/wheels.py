"""Wheels that pip made here, by checksum; what it made of which words, so that it makes it once.

A wheel that runs with any Python is made once for all; any other one for each Python.
"""

import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

from rollout.pythons import Interpreter
from rollout.sources import output

ANYWHERE: Final = "-none-any.whl"


class Wheels:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def file(self, digest: str, name: str) -> Path:
        return self._folder / "wheels" / digest / name

    def is_whole(self, digest: str, name: str) -> bool:
        """Is it here, and what its checksum says?"""
        file = self.file(digest, name)
        return file.exists() and _digest(file) == digest

    def of(self, kind: str, key: str, *words: str, by: Interpreter) -> dict[str, str]:
        """The wheels that `pip wheel` makes of these words, or made of them before: sha256 and file name."""
        for_all = self._folder / kind / f"{key}.json"
        for_one = for_all.with_stem("-".join([key, by.python.version, by.python.platform]))
        for known in (for_one, for_all):
            if known.exists():
                found: dict[str, str] = json.loads(known.read_text())
                if all(self.is_whole(digest, name) for digest, name in found.items()):
                    return found
        found = self._make(by, *words)
        anywhere = all(name.endswith(ANYWHERE) for name in found.values())
        write(for_all if anywhere else for_one, json.dumps(found, indent=2))
        return found

    def _make(self, by: Interpreter, *words: str) -> dict[str, str]:
        with tempfile.TemporaryDirectory() as made:
            pip = (by.program, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet")
            output(*pip, "--wheel-dir", made, *words)
            found = {_digest(file): file.name for file in sorted(Path(made).glob("*.whl"))}
            for file in Path(made).glob("*.whl"):
                kept = self.file(_digest(file), file.name)
                kept.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(file, draft := kept.with_suffix(f".{os.getpid()}"))
                draft.replace(kept)
        return found


def write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f"{file.name}.new")
    draft.write_text(text + "\n")
    draft.replace(file)


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
