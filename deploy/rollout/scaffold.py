"""`fab init FOLDER`: the tools, and files to fill in, for another project. What is there already is left."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from rollout.errors import UsageError
from rollout.steward import MODULES

PARTS: Final = (
    *("fabfile.py", "requirements.txt", "requirements-index.txt", "deploy.toml"),
    *("stages", "templates", "tasks", "remote", "rollout", "steward"),
)
IGNORED: Final = ".build/\n.venv/\n__pycache__/\n"


def write(source: Path, project: Path) -> list[tuple[str, str]]:
    """What happened to each file of the project's deploy/."""
    if not project.is_dir():
        raise UsageError(f"{project} is no folder; make it, and a git repository of it, first")
    target = project / "deploy"
    done = [_copy(file, target / file.relative_to(source)) for file in _files(source)]
    done += [_copy(file, target / "steward" / file.relative_to(source.parent)) for file in _shared(source)]
    if (target / ".gitignore").exists():
        return [*done, (str(target / ".gitignore"), "left")]
    (target / ".gitignore").write_text(IGNORED)
    return [*done, (str(target / ".gitignore"), "written")]


def _files(source: Path) -> Iterator[Path]:
    for part in PARTS:
        paths = [source / part] if (source / part).is_file() else sorted((source / part).rglob("*"))
        yield from (path for path in paths if path.is_file() and "__pycache__" not in path.parts)


def _shared(source: Path) -> Iterator[Path]:
    """What the steward has of the service, which another project has by its wheel only."""
    folder = source.parent / "service" / "workspaces"
    yield from (folder / f"{name}.py" for name in MODULES)


def _copy(file: Path, target: Path) -> tuple[str, str]:
    if target.exists() or target.is_symlink():
        return str(target), "left"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(file, target)
    return str(target), "written"
