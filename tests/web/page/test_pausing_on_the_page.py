"""Pausing and resuming queues and types; and that what is paused is shown so."""

import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from service.store import SCRIPTS, Store
from service.store.connection import connect
from service.tasks import moments
from service.tasks.document import QUEUED, Task, decode
from service.tasks.uid import random_prefix
from service.web.app import Web
from tests.servers import RedisServer, eventually
from tests.web.page.conftest import OWN, Guarded, Seen, create, said


def test_a_queue_is_paused_with_a_reason_and_an_end_shown_everywhere_and_resumed(
    open_page: FlaskClient, store: Store, tmp_path: Path
) -> None:
    uid = create(open_page)
    form = {"reason": "<b>the disk</b>", "minutes": "90"}
    assert said(open_page, open_page.post("/ui/queues/default/pause", data=form, headers=OWN)) == "default is paused."
    pause = store.pauses.now().queues["default"]
    assert pause.reason == "<b>the disk</b>" and pause.until is not None and pause.until > pause.since
    fresh = open_page.application.test_client()
    for place in ("/ui", "/ui/queues", "/ui/tasks", f"/ui/tasks/{uid}"):
        assert "paused" in fresh.get(place).text, place
    assert "&lt;b&gt;the disk&lt;/b&gt;" in open_page.get("/ui").text
    resumed = open_page.post("/ui/queues/default/resume", headers=OWN)
    assert said(open_page, resumed) == "default goes on."
    assert store.pauses.now().queues == {}
    told = [json.loads(line)["did"] for line in (tmp_path / "audit.log").read_text().splitlines()]
    assert told == ["created", "paused", "resumed"]


def test_a_type_is_paused_and_resumed(open_page: FlaskClient, store: Store) -> None:
    open_page.post("/ui/types/echo/pause", data={"reason": ""}, headers=OWN)
    assert store.pauses.now().types["echo"].reason is None
    assert "This type is paused" in open_page.get("/ui/types/echo").text
    open_page.post("/ui/types/echo/resume", headers=OWN)
    assert store.pauses.now().types == {}


@pytest.mark.parametrize("minutes", ["soon", "-1", "0", "nan", "1e99"])
def test_an_end_that_makes_no_sense_is_refused(open_page: FlaskClient, store: Store, minutes: str) -> None:
    assert open_page.post("/ui/queues/default/pause", data={"minutes": minutes}, headers=OWN).status_code == 422
    assert store.pauses.now().queues == {}


def test_what_is_not_there_cannot_be_paused(open_page: FlaskClient) -> None:
    assert open_page.post("/ui/queues/nowhere/pause", headers=OWN).status_code == 404
    assert open_page.post("/ui/types/nothing/resume", headers=OWN).status_code == 404


def test_who_may_only_read_sees_the_pause_and_no_form(guarded: Guarded, store: Store) -> None:
    guarded.somebody("write").post("/ui/queues/default/pause", headers=OWN)
    client = guarded.somebody("read")
    assert client.post("/ui/queues/default/resume", headers=OWN).status_code == 403
    text = client.get("/ui/queues").text
    assert "paused" in text and "/ui/queues/default" not in text
    assert "default" in store.pauses.now().queues


@pytest.fixture
def forgetful(redis_server: RedisServer) -> Iterator[Store]:
    """For it, a type is known for no time at all."""
    store = Store(connect(redis_server.url, SCRIPTS), known_seconds=0.0)
    yield store
    store.close()


def stuck(store: Store) -> str:
    """A task of a type that no runner knows any more."""
    store.lots.tell(["gone"])
    created = moments.stamp(time.time())
    task = Task(uid=store.uid(random_prefix()), type="gone", queue="default", status=QUEUED, created_at=created)
    store.create([task])
    held = [(each, decode(each.text or b"")) for each in store.queues.fetch(0, ("default",), "a", 10)]
    assert eventually(lambda: store.lots.park("a", held) == [])
    return task.uid


def test_stuck_types_are_shown_with_their_tasks_and_a_way_to_cancel_all(
    make_app: Callable[..., Web], forgetful: Store, tmp_path: Path
) -> None:
    guarded = Guarded(partial(make_app, store=forgetful), tmp_path)
    writer, reader = guarded.somebody("write"), guarded.somebody("read")
    assert "Stuck" not in writer.get("/ui/types").text
    uid = stuck(forgetful)
    assert eventually(lambda: "Stuck" in writer.get("/ui/types").text)
    seen = Seen(writer.get("/ui/types"))
    tasks, cancel = (
        next(link["href"] for link in seen.all("a") if link["href"].startswith(beginning) and "gone" in link["href"])
        for beginning in ("/ui/tasks?", "/ui/tasks/all?")
    )
    assert uid in writer.get(tasks).text
    assert "1 task" in writer.get(cancel).text
    text = reader.get("/ui/types").text
    assert "Stuck" in text and "Cancel all" not in text
