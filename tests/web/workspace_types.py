"""The types of workspaces' tasks as the web knows them: by name and arguments."""

from typing import Any, Literal

from service.tasks.declare import task

QUEUE = "workspaces"


@task("workspace.create", queue=QUEUE)
def create(context: Any, email: str, take_over: bool = False) -> None:
    """Builds a workspace."""


@task("workspace.delete", queue=QUEUE)
def delete(context: Any, slug: str, force: bool = False, branch: Literal["ours", "keep"] = "ours") -> None:
    """Takes it away."""


@task("workspace.start", queue=QUEUE)
def start(context: Any, slug: str) -> None: ...


@task("workspace.stop", queue=QUEUE)
def stop(context: Any, slug: str) -> None: ...


@task("workspace.restart", queue=QUEUE)
def restart(context: Any, slug: str) -> None: ...


@task("workspace.update", queue=QUEUE)
def update(context: Any, slug: str) -> None: ...


@task("workspace.test", queue=QUEUE)
def test(context: Any, slug: str) -> None: ...


@task("workspace.rebuild", queue=QUEUE)
def rebuild(context: Any, slug: str, python: str | None = None) -> None: ...


@task("workspace.access", queue=QUEUE)
def access(context: Any, slug: str, login: str) -> None: ...
