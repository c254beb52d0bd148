"""Packages with task types of a team, as `packages` in deploy.toml names them.

`./reports` is a folder of the project, taken from the commit that is deployed; another folder is taken from what is
checked out there. `reports==1.2` is pinned like a line of requirements.txt, and `git+…@<sha>` is a commit.
"""

import hashlib
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

from rollout import sources
from rollout.errors import UsageError
from rollout.pythons import Interpreter
from rollout.stage import Stage


def pinned(stage: Stage) -> list[Requirement]:
    return [Requirement(word) for word in stage.packages if not _is_folder(word) and not _is_commit(word)]


def from_source(stage: Stage) -> list["Source"]:
    return [Source(word, stage.project) for word in stage.packages if _is_folder(word) or _is_commit(word)]


def makes_a_wheel(folder: Path) -> bool:
    return (folder / "pyproject.toml").exists() or (folder / "setup.py").exists()


def isolation(folder: Path, by: Interpreter) -> list[str]:
    """Where all that a build requires is installed here, no index is asked for it."""
    file = folder / "pyproject.toml"
    build = tomllib.loads(file.read_text()).get("build-system", {}) if file.exists() else {}
    return ["--no-build-isolation"] if all(map(by.has, build.get("requires", ["setuptools"]))) else []


def _is_folder(word: str) -> bool:
    return word.startswith((".", "/"))


def _is_commit(word: str) -> bool:
    return word.startswith("git+")


@dataclass(frozen=True)
class Source:
    word: str
    project: Path

    @contextmanager
    def unpacked(self, source: Path, sha: str, by: Interpreter) -> Iterator[tuple[str, Sequence[str]]]:
        """A key that is another one when the content is, and what pip is given."""
        if _is_commit(self.word):
            yield self._key(self.word), [self.word]
            return
        folder = (self.project / self.word).resolve()
        if folder.is_relative_to(self.project.resolve()):
            inside = source / folder.relative_to(self.project.resolve())
            self._check(inside, f"{self.word} in the commit {sha[:7]}")
            yield self._key(sha), [*isolation(inside, by), str(inside)]
            return
        self._check(folder, self.word)
        commit = sources.commit_of(folder)
        with tempfile.TemporaryDirectory() as scratch:
            sources.extract(folder, commit, Path(scratch))
            yield self._key(commit), [*isolation(Path(scratch), by), scratch]

    def _key(self, commit: str) -> str:
        return hashlib.sha256(f"{self.word}\n{commit}".encode()).hexdigest()

    @staticmethod
    def _check(folder: Path, name: str) -> None:
        if not makes_a_wheel(folder):
            raise UsageError(f"packages: {name} has neither a pyproject.toml nor a setup.py")
