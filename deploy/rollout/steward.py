"""The steward of the workspaces: on the hosts of a stage that has `workspaces`. Its files are root's, and only `setup`
puts them there: what a deploy brings never runs as root.
"""

from pathlib import Path
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from rollout import templates
from rollout.errors import UsageError
from rollout.stage import Stage
from rollout.templates import File

PROGRAM: Final = "/srv/sandbox-steward"
PACKAGES: Final = ("git", "iproute2")
MODULES: Final = ("places", "recipes", "looking", "dotenv", "launch")  # what it shares with the service


def files(stage: Stage) -> list[File]:
    return [*_program(stage), *templates.of_steward(stage, origin=_origin(stage))]


def _program(stage: Stage) -> list[File]:
    found = {f"steward/{file.name}": file for file in sorted((stage.folder / "steward").glob("*.py"))}
    found["__main__.py"] = found.pop("steward/__main__.py")
    found |= {f"service/workspaces/{name}.py": _shared(stage, name) for name in MODULES}
    return [
        File(path=f"{PROGRAM}/{path}", owner="root", group="root", mode=0o644, content=file.read_text())
        for path, file in found.items()
    ]


def _shared(stage: Stage, name: str) -> Path:
    """`fab init` lays copies beside the steward; here they are the service's own."""
    for folder in (stage.folder / "steward", stage.project):
        file = folder / "service" / "workspaces" / f"{name}.py"
        if file.exists():
            return file
    raise UsageError(f"the steward needs {name}.py of service/workspaces, which is not there")


def _origin(stage: Stage) -> str:
    """Without a name and a password: it is what people's own pushes go to."""
    url = stage.environment.get("SANDBOX_WORKSPACE_GIT", "")
    if urlsplit(url).scheme not in ("http", "https"):
        return url
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
