"""Workspaces by the client, beside the application with records that were made by hand."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from sandbox_client import AsyncClient, Client, Conflict, Invalid, NotFound, TooManyRequests
from service.workspaces.record import FAILED
from tests.client.blocking import Blocking
from tests.web.estate import EMAIL, SLUG, Estate, served


@pytest.fixture(params=["threads", "asyncio"])
def sandbox(request: pytest.FixtureRequest, estate: Estate, runner: asyncio.Runner) -> Iterator[Any]:
    with served(estate.client.application) as url:  # type: ignore[arg-type]
        if request.param == "threads":
            with Client(url, retry_for=1) as client:
                yield client
        else:
            opened = AsyncClient(url, retry_for=1)
            yield Blocking(opened, runner)
            runner.run(opened.close())


def test_one_is_made_awaited_and_read(sandbox: Any, estate: Estate) -> None:
    made = sandbox.create_workspace(EMAIL)
    assert (made.slug, made.state, made.email, made.address) == (SLUG, "requested", EMAIL, None)
    assert sandbox.create_workspace(EMAIL).record == made.record
    task = made.task()
    assert (task.type, task.args) == ("workspace.create", {"email": EMAIL, "take_over": False})
    estate.end(task.uid)
    assert task.wait(timeout=60).status == "succeeded"
    estate.record(unpushed=["2 commits"])
    found = made.refresh()
    assert (found.state, found.branch, found.unpushed, found.error) == ("ready", EMAIL, ["2 commits"], None)
    assert [each.slug for each in sandbox.workspaces()] == [SLUG]
    assert sandbox.workspace(SLUG).created_at == found.created_at


def test_each_action_is_a_task(sandbox: Any, estate: Estate) -> None:
    estate.record()
    workspace = sandbox.workspace(SLUG)
    assert workspace.task() is None
    for action in ("start", "stop", "restart", "update", "test"):
        task = workspace.act(action)
        assert (task.type, task.args, workspace.record["task"]) == (f"workspace.{action}", {"slug": SLUG}, task.uid)
        with pytest.raises(Conflict) as refused:
            workspace.act("stop")
        assert refused.value.problem["task"] == task.uid
        estate.end(task.uid)
    assert workspace.link().startswith(f"/ui/workspaces/{SLUG}/open?key=")
    assert workspace.extend().record["last_used"] is not None
    given = {"rebuild": {"python": "python3.12"}, "access": {"login": "jo"}}
    for action, args in given.items():
        task = workspace.act(action, **args)
        assert task.args == {"slug": SLUG, **args}
        estate.end(task.uid)


def test_a_deletion_may_be_forced(sandbox: Any, estate: Estate) -> None:
    estate.record()
    workspace = sandbox.workspace(SLUG)
    for asked, args in (
        ({}, {"force": False, "branch": "ours"}),
        ({"force": True, "keep_branch": True}, {"force": True, "branch": "keep"}),
    ):
        task = workspace.delete(**asked)
        assert task.args == {"slug": SLUG, **args}
        estate.end(task.uid)


def test_what_is_refused_is_an_exception(sandbox: Any, estate: Estate) -> None:
    with pytest.raises(Invalid) as wrong:
        sandbox.create_workspace("jo")
    assert wrong.value.field == "email"
    with pytest.raises(NotFound):
        sandbox.workspace("w-nobody-aaaaaaaa")
    for name in "abcd":
        estate.record(f"{name}@x.de", state=FAILED)
    with pytest.raises(TooManyRequests):
        sandbox.create_workspace(EMAIL)
