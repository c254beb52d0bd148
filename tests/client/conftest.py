"""A real service, a fake one, and both kinds of client for each."""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox_client import AsyncClient, Client
from sandbox_client.testing import FakeSandbox
from tests.client.blocking import Blocking
from tests.system.conftest import make_instance  # noqa: F401 - a fixture
from tests.system.instance import Instance
from tests.web.conftest import estate, make_app, redis_server, registry, store  # noqa: F401 - fixtures

TYPES = "service.builtin.demo tests.client.handlers"


@pytest.fixture(autouse=True)
def _no_address_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SANDBOX_URL", raising=False)
    monkeypatch.delenv("SANDBOX_TOKEN", raising=False)


@pytest.fixture(scope="session")
def running() -> Iterator[Instance]:
    """A service for all tests that leave it as it is."""
    with tempfile.TemporaryDirectory(prefix="sandbox-") as folder:
        instance = Instance(Path(folder), SANDBOX_QUEUES="default,reports", SANDBOX_TASKS=TYPES)
        try:
            instance.started()
            yield instance
            assert instance.stop() == 0
        finally:
            instance.clean_up()


@pytest.fixture
def url(running: Instance) -> str:
    return f"http://127.0.0.1:{running.port}"


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url) as client:
        yield client


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


def echo(message: Any = "") -> Any:
    """Returns its message."""
    return message


def fail(message: str = "this task fails") -> None:
    raise RuntimeError(message)


@pytest.fixture
def fake() -> FakeSandbox:
    return FakeSandbox({"echo": echo, "fail": fail, "sleep": None}, queues=("default", "reports"))


@pytest.fixture(params=["service", "service, async", "fake", "fake, async"])
def sandbox(request: pytest.FixtureRequest, runner: asyncio.Runner) -> Iterator[Any]:
    kind, _, asynchronous = request.param.partition(", ")
    fake: FakeSandbox | None = request.getfixturevalue("fake") if kind == "fake" else None
    url = "" if fake else request.getfixturevalue("url")
    if asynchronous:
        opened = fake.async_client() if fake else AsyncClient(url)
        yield Blocking(opened, runner)
        runner.run(opened.close())
    else:
        with fake.client() if fake else Client(url) as client:
            yield client
