"""Releases by the client, beside the application with a ledger that was made by hand."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox_client import AsyncClient, Client, Conflict, NotFound
from service.store import Store
from service.web.app import Web
from tests.client.blocking import Blocking
from tests.web.estate import served
from tests.web.test_releases import FIRST, OLD, Yard


@pytest.fixture
def yard(make_app: Callable[..., Web], store: Store, tmp_path: Path) -> Yard:
    made = Yard(make_app, store, tmp_path)
    made.ledger.prove(FIRST, OLD, "1" * 64)
    return made


@pytest.fixture(params=["threads", "asyncio"])
def sandbox(request: pytest.FixtureRequest, yard: Yard, runner: asyncio.Runner) -> Iterator[Any]:
    with served(yard.client.application) as url:  # type: ignore[arg-type]
        if request.param == "threads":
            with Client(url, token=yard.secrets["jo"], retry_for=1) as client:
                yield client
        else:
            opened = AsyncClient(url, token=yard.secrets["jo"], retry_for=1)
            yield Blocking(opened, runner)
            runner.run(opened.close())


def test_one_is_brought_to_the_second_stage(sandbox: Any) -> None:
    assert [each["release"] for each in sandbox.releases()["releases"]] == [FIRST]
    task = sandbox.promote(FIRST)
    assert (task.type, task.args) == ("release.deploy", {"release": FIRST})
    assert sandbox.releases()["asked"]["task"] == task.uid
    with pytest.raises(Conflict):
        sandbox.promote(FIRST)
    with pytest.raises(NotFound):
        sandbox.promote("20990101T000000-ccccccc")
