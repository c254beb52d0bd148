"""A whole service with workspaces turned on: a client's task makes one, which outlives what happens to the service."""

import fcntl
import http.client
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from service.workspaces import names, whose
from tests.servers import BUSY, eventually, free_port
from tests.system.instance import SANDBOX, Instance
from tests.workspaces.conftest import small_project
from tests.workspaces.yard import Yard

SLUG = names.slug("jo@example.org")


@pytest.fixture
def instance(folder: Path) -> Iterator[Instance]:
    yard = Yard(folder, source=small_project(folder))
    port = free_port()
    made = Instance(
        folder, SANDBOX_WORKSPACE_GIT=str(yard.origin), SANDBOX_WORKSPACE_DOMAIN=f"localhost:{port}",
        SANDBOX_WORKSPACES=str(yard.places.root), SANDBOX_RUNNERS="1", SANDBOX_WEB_WORKERS="1",
    )  # fmt: skip
    made.page = port  # type: ignore[attr-defined]
    yield made.started()
    made.clean_up()
    yard.close()


def finished(instance: Instance, uid: str) -> dict[str, Any]:
    done = ("succeeded", "failed", "cancelled")
    return dict(eventually(lambda: found if (found := instance.task(uid))["status"] in done else None, 180))


def page(instance: Instance) -> tuple[int, str]:
    port = instance.page  # type: ignore[attr-defined]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/", headers={"Host": f"{SLUG}.localhost:{port}"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


def test_a_builder_makes_a_workspace_that_outlives_the_service(instance: Instance) -> None:
    task = finished(instance, instance.create("workspace.create", email="jo@example.org"))
    assert task["status"] == "succeeded", task
    status, text = page(instance)
    assert status == 200 and text.endswith("hello")
    for told in (instance.output, (instance.home / "log" / "web.log").read_text()):
        assert told.count("workspaces are not isolated: their code runs as this user, ") == 1

    assert instance.circusctl("reload", "sandbox-builder") == "ok\n"
    assert page(instance) == (200, text)
    assert instance.stop() == 0
    assert page(instance) == (200, text)
    instance.started()
    assert page(instance) == (200, text)

    for process in instance.kinds()["runner"]:
        os.kill(process.pid, signal.SIGKILL)
    instance.kill()
    instance.started()
    assert page(instance) == (200, text)
    task = finished(instance, instance.create("workspace.delete", slug=SLUG))
    assert task["status"] == "succeeded" and task["result"]["state"] == "deleted"
    assert page(instance)[0] == 421


@pytest.mark.slow
def test_all_are_halted_when_the_service_has_ended_and_the_next_start_brings_them_back(instance: Instance) -> None:
    task = finished(instance, instance.create("workspace.create", email="jo@example.org"))
    assert task["status"] == "succeeded", task
    assert instance.call("POST", "/schedules/workspace.reconcile/pause")[0] == 200  # it would start them, too
    homes = Path(instance.environment["SANDBOX_WORKSPACES"]) / "w"
    halt = (*SANDBOX, "workspace", "halt")
    assert "starts them again within five minutes" in instance.run(*halt).stderr
    assert whose.marked(homes) == []
    assert instance.stop() == 0
    assert "the workspaces run on" not in instance.output

    run = homes.with_name("run")
    with open(run / "turn.lock", "rb") as somebody_elses:  # their circusd takes its time; a builder does other work
        fcntl.flock(somebody_elses, fcntl.LOCK_EX)
        instance.started()
        task = finished(instance, instance.create("workspace.access", slug="w-nobody", login="jo"))
        assert task["status"] == "failed" and "there is no workspace" in task["error"]["message"], task
        assert not _answers(instance)
    eventually(lambda: _answers(instance), 60 * BUSY)
    assert instance.stop() == 0
    assert "To stop them, too: sandbox workspace halt" in instance.output
    assert _answers(instance)
    assert "The next `sandbox run` starts them again" in instance.run(*halt).stderr
    assert whose.marked(homes) == []
    assert "No workspace of" in instance.run(*halt).stderr


def _answers(instance: Instance) -> bool:
    """False where nginx is not there."""
    with suppress(ConnectionError):
        return page(instance)[0] == 200
    return False


@pytest.mark.slow
def test_a_reload_hands_a_creation_back_and_the_next_builder_goes_on(folder: Path) -> None:
    yard = Yard(folder, source=small_project(folder))
    instance = Instance(
        folder, SANDBOX_WORKSPACE_GIT=str(yard.origin), SANDBOX_WORKSPACE_DOMAIN=f"localhost:{free_port()}",
        SANDBOX_WORKSPACES=str(yard.places.root), SANDBOX_RUNNERS="1", SANDBOX_WEB_WORKERS="1", SANDBOX_GRACE="0",
    )  # fmt: skip
    try:
        instance.started()
        uid = instance.create("workspace.create", email="jo@example.org")
        eventually(lambda: (found := yard.plan.shelf.read(SLUG)) and found.step == "venv", 60)
        assert instance.circusctl("reload", "sandbox-builder") == "ok\n"
        task = finished(instance, uid)
        assert task["status"] == "succeeded" and task["attempt"] > 1 and task["failures"] == task["crashes"] == 0
    finally:
        instance.clean_up()
        yard.close()
