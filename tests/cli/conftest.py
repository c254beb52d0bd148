"""A real service, and the command beside it, as a person or a program calls it."""

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.scripted import Answer, Script, Scripted
from tests.system.conftest import instance, make_instance, released, releases  # noqa: F401 - fixtures
from tests.system.instance import SANDBOX, Instance
from tests.web.conftest import estate, finish, make_app, redis_server, registry, store  # noqa: F401 - fixtures

Command = Callable[..., "subprocess.CompletedProcess[str]"]

TYPES = """
import time
from typing import Any, Literal

from service import task


@task("order")
def order(
    context,
    item: str,
    count: int = 1,
    express: bool = False,
    tags: list[str] | None = None,
    note: str | None = None,
    size: Literal["small", "large"] = "small",
    more: Any = None,
) -> dict:
    \"\"\"Orders so many of an item.\"\"\"
    return {"item": item, "count": count, "express": express, "tags": tags, "note": note, "size": size, "more": more}


@task("talk")
def talk(context, lines: int = 3, seconds: float = 0.0) -> int:
    for number in range(lines):
        context.log(f"line {number}\\nbelow\\x1b[2J")
        context.progress((number + 1) / lines, f"said {number}")
        time.sleep(seconds)
    return lines


@task("family")
def family(context) -> str:
    return context.create("echo")


@task("broken", max_attempts=1)
def broken(context, says: str = "it broke") -> None:
    raise RuntimeError(says)
"""


@pytest.fixture(scope="session")
def running() -> Iterator[Instance]:
    """A service for all tests that leave it as it is."""
    with tempfile.TemporaryDirectory(prefix="sandbox-") as folder:
        (Path(folder) / "shop.py").write_text(TYPES)
        service = Instance(
            Path(folder), SANDBOX_QUEUES="default,side", SANDBOX_TASKS="service.builtin.demo,shop", SANDBOX_RUNNERS="1"
        )
        try:
            service.started()
            yield service
            assert service.stop() == 0
        finally:
            service.clean_up()


@pytest.fixture
def sandbox(running: Instance) -> Command:
    def sandbox(*words: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        return running.run(*SANDBOX, *words, **variables)

    return sandbox


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[Script]:
    made: list[Scripted] = []

    def script(*answers: Answer, path: str = "") -> Scripted:
        made.append(Scripted(list(answers)))
        monkeypatch.setenv("SANDBOX_URL", made[-1].url + path)
        return made[-1]

    monkeypatch.delenv("SANDBOX_TOKEN", raising=False)
    yield script
    for server in made:
        server.close()
