"""GET /tasks/<uid>/events: a task as it changes."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest

from service.store import Change, Store, wakeups
from service.tasks import moments, transitions
from service.tasks.document import QUEUED, Task, encode
from service.tasks.uid import random_prefix
from service.web.api import task_events
from service.web.api.task_events import Events, Reached, Stream, last_seen
from service.web.app import Web
from tests.servers import BUSY, eventually
from tests.web.conftest import WebServer
from tests.web.event_reader import Reader
from tests.web.test_task_log import claim, say

NOW = moments.stamp(1_700_000_000.0)


@pytest.fixture
def uid(store: Store) -> str:
    uid = store.uid(random_prefix())
    store.create([Task(uid=uid, type="echo", queue="default", status=QUEUED, created_at=NOW)])
    return uid


@pytest.fixture
def read(server: WebServer, uid: str) -> Iterator[Callable[..., Reader]]:
    made: list[Reader] = []

    def read(last: str | None = None, **headers: str) -> Reader:
        made.append(Reader(server.port, uid, last, **headers))
        return made[-1]

    yield read
    for reader in made:
        reader.close()


def progress(store: Store, uid: str, message: str) -> None:
    found = store.read(uid)
    assert found is not None
    news = json.dumps({"fraction": None, "message": message}).encode()
    after = transitions.progressed(found.task, msgspec.Raw(news))
    assert store.move([Change(found.text, found.task, after)]).stored


# --- what is told ------------------------------------------------------------------------------------


def test_each_change_and_each_line_is_told_up_to_the_end(
    store: Store, uid: str, read: Callable[..., Reader], finish: Callable[..., None]
) -> None:
    reader = read()
    assert reader.status == 200
    assert reader.answer.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert (reader.answer.headers["Cache-Control"], reader.answer.headers["X-Accel-Buffering"]) == ("no-store", "no")
    eventually(lambda: reader.statuses == ["queued"])
    claim(store, uid)
    eventually(lambda: reader.statuses == ["queued", "running"])
    say(store, uid, "one", "two")
    eventually(lambda: reader.lines == ["one", "two"])
    say(store, uid, "last")
    finish(uid)
    eventually(lambda: reader.is_over)
    assert reader.lines == ["one", "two", "last"]
    assert reader.statuses == ["queued", "running", "succeeded"]
    assert [event.kind for event in reader.events][-2:] == ["task", "end"]
    assert reader.of("end") == [{"status": "succeeded"}]
    assert 1000 <= reader.retry <= 3000


def test_who_comes_back_gets_what_it_has_not_seen(
    store: Store, uid: str, read: Callable[..., Reader], finish: Callable[..., None]
) -> None:
    say(store, uid, "one")
    first = read()
    eventually(lambda: first.statuses == ["queued"])
    assert [event.kind for event in first.events] == ["log", "task"]
    first.close()
    say(store, uid, "two")
    second = read(first.last_seen)
    eventually(lambda: second.lines == ["two"])
    claim(store, uid)
    finish(uid)
    eventually(lambda: second.is_over)
    assert second.lines == ["two"] and second.statuses[-1] == "succeeded"
    third = read(second.events[-2].id)
    eventually(lambda: third.is_over)
    assert [event.kind for event in third.events] == ["end"]
    assert read(second.last_seen).status == 204


def test_after_the_end_a_retried_task_is_told_anew(store: Store, uid: str, read: Callable[..., Reader]) -> None:
    store.change(uid, lambda task: transitions.cancelled(task, NOW))
    ended = read()
    eventually(lambda: ended.is_over)
    store.change(uid, transitions.requeued)
    again = read(ended.last_seen)
    eventually(lambda: again.statuses == ["queued"])
    assert not again.is_over


@pytest.mark.parametrize("sent", ["", "x", "1", "-1-2", "999999999999999-999999999999999", "1-2-over"])
def test_an_id_from_elsewhere_tells_all(store: Store, uid: str, read: Callable[..., Reader], sent: str) -> None:
    say(store, uid, "one")
    reader = read(sent)
    eventually(lambda: reader.statuses == ["queued"])
    assert reader.lines == ["one"]


def test_hostile_text_is_no_event(store: Store, uid: str, read: Callable[..., Reader]) -> None:
    texts = ["a\n\nevent: end\ndata: {}\n\n", "b\r\rid: 9-9\r\nretry: 1\r\n\r\n", "c\u2028\u0085\x00data: x"]
    say(store, uid, *texts)
    claim(store, uid)
    progress(store, uid, "\n\nevent: end\ndata: 1\n\n")
    reader = read()
    eventually(lambda: reader.statuses == ["running"])
    assert reader.lines == texts
    assert [event.kind for event in reader.events] == ["log", "task"]
    assert reader.retry >= 1000


def test_a_task_that_is_purged_ends_the_stream(store: Store, uid: str, read: Callable[..., Reader]) -> None:
    reader = read()
    eventually(lambda: reader.statuses == ["queued"])
    store._wire.call(0, ("DEL", uid))
    eventually(lambda: reader.is_over)
    assert reader.of("end") == [{"status": None}]


# --- who reads ---------------------------------------------------------------------------------------


def test_a_stopping_worker_ends_its_streams_at_once(
    make_server: Callable[..., WebServer], store: Store, uid: str
) -> None:
    server = make_server(workers=1).start()
    readers = [Reader(server.port, uid) for _ in range(20)]
    eventually(lambda: all(reader.statuses for reader in readers))
    [worker] = server.workers()
    os.kill(worker, signal.SIGTERM)
    eventually(lambda: all(reader.is_over for reader in readers), 2.0 * BUSY)
    assert not any(reader.of("end") for reader in readers)
    eventually(lambda: server.workers() not in ([worker], []), 10.0 * BUSY)
    say(store, uid, "meanwhile")
    again = Reader(server.port, uid, readers[0].last_seen)
    eventually(lambda: again.lines == ["meanwhile"])
    assert again.statuses == []
    for reader in (*readers, again):
        reader.close()


def test_more_than_so_many_are_refused(make_app: Callable[..., Web], uid: str) -> None:
    app = make_app(streams=1)
    assert app.events._join(Stream(uid))
    answer = app.test_client().get(f"/tasks/{uid}/events")
    assert (answer.status_code, answer.content_type) == (503, "application/problem+json")
    assert 1 <= int(answer.headers["Retry-After"]) <= 5


def test_a_reader_that_is_gone_makes_room(make_app: Callable[..., Web], uid: str) -> None:
    app = make_app(streams=1)
    for _ in range(3):
        with app.test_client().get(f"/tasks/{uid}/events") as answer:
            assert next(iter(answer.response)).startswith(b"retry: ")
            assert app.events.count == 1
        assert app.events.count == 0
    assert app.test_client().head(f"/tasks/{uid}/events").status_code == 200
    assert app.events.count == 0


def test_a_quiet_stream_has_a_heartbeat(
    make_app: Callable[..., Web], uid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_events, "HEARTBEAT_SECONDS", 0.05)
    with make_app().test_client().get(f"/tasks/{uid}/events") as answer:
        chunks = iter(answer.response)
        seen = [next(chunks) for _ in range(4)]
    assert b"event: task" in seen[1] and seen[2:] == [b":\n\n"] * 2


def test_a_stream_ends_after_some_minutes(
    make_app: Callable[..., Web], uid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_events, "HEARTBEAT_SECONDS", 0.05)
    monkeypatch.setattr(task_events, "LONGEST_SECONDS", 0.3)
    with make_app().test_client().get(f"/tasks/{uid}/events") as answer:
        assert b"event: end" not in b"".join(answer.response)


def test_readers_that_wait_ask_redis_next_to_nothing(store: Store, redis_server: Any, uid: str) -> None:
    """200 of them: one look for all together each second."""
    events = Events(store, limit=200)
    for _ in range(200):
        stream = Stream(uid)
        stream.text = store.texts([uid])[0]
        assert events._join(stream)
    eventually(lambda: all(stream.is_followed for stream in events._all(0)))
    client = redis_server.client()
    before = client.info("stats")["total_commands_processed"]
    looks = 3
    eventually(lambda: client.info("commandstats").get("cmdstat_mget", {"calls": 0})["calls"] > looks, 10, pause=0.5)
    asked = client.info("stats")["total_commands_processed"] - before
    assert asked < 100
    assert store.wakeups._listeners.keys() == {0}


def test_where_a_reader_has_come_is_read_as_it_was_written() -> None:
    for reached in (Reached(3, 17), Reached(3, 17, is_end=True), Reached()):
        assert last_seen(str(reached)) == reached
    assert last_seen(None) == last_seen("nonsense") == Reached(0, 0)


def test_without_wake_ups_the_document_is_found_nevertheless(
    store: Store, uid: str, read: Callable[..., Reader], finish: Callable[..., None]
) -> None:
    reader = read()
    eventually(lambda: reader.statuses == ["queued"])
    found = store.read(uid)
    assert found is not None
    silent = transitions.cancelled(found.task, NOW)
    store._wire.call(0, ("SET", uid, encode(silent)))
    eventually(lambda: reader.is_over, wakeups.LOOK_SECONDS * 5 * BUSY)
    assert reader.statuses == ["queued", "cancelled"]
