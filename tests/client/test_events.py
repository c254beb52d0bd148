"""A task's log, its attempts and its events, through the client."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sandbox_client import Client, NotFound, UnexpectedAnswer
from sandbox_client.events import Event, EventParser
from tests.client.scripted import Answer, NotedClock, serving
from tests.servers import eventually
from tests.system.instance import Instance


def told(*events: tuple[str, str, Any]) -> bytes:
    return "".join(
        f"id: {number}\nevent: {kind}\ndata: {json.dumps(data)}\n\n" for number, kind, data in events
    ).encode()


def test_the_log_and_the_attempts_of_a_task(url: str) -> None:
    with Client(url) as sandbox:
        task = sandbox.create("client.talk")
        said = ["line 0", "line 1", "line 2", "last"]
        assert [line.text for line in task.log(follow=True)] == said
        assert task.status == "succeeded"
        lines = list(task.log())
        assert [line.text for line in lines] == said
        assert (lines[0].id, lines[0].level, lines[0].attempt) == ("1", "info", 1) and lines[0].at >= task.created_at
        [attempt] = task.attempts()
        assert (attempt.attempt, attempt.outcome, attempt.error) == (1, "succeeded", None)
        assert attempt.started_at == task.started_at and attempt.duration == task.duration


def test_both_kinds_of_client_and_the_fake_tell_the_same(sandbox: Any) -> None:
    failed = sandbox.create("fail", max_attempts=1)
    events = list(failed.events())
    assert [event.kind for event in events if event.kind != "log"][-2:] == ["task", "end"]
    assert events[-1].data == {"status": "failed"} and failed.status == "failed"
    [attempt] = failed.attempts()
    assert (attempt.outcome, attempt.error.type) == ("failed", "RuntimeError")
    assert isinstance(list(failed.log()), list)


def test_an_unknown_task_has_none(sandbox: Any) -> None:
    task = sandbox.create("echo")
    task.document["uid"] = "0" * 64
    for call in (task.attempts, lambda: list(task.log()), lambda: list(task.events())):
        with pytest.raises(NotFound):
            call()


def test_a_stream_that_ends_too_early_is_gone_on_with() -> None:
    clock = NotedClock()
    page = {"lines": [{"id": "1", "at": "2026-11-20T23:47:58.120000Z", "level": "info", "text": "a", "attempt": 1}]}
    kind = {"Content-Type": "text/event-stream"}
    with serving() as server, Client(server.url, clock=clock) as sandbox:
        server.answers = [
            Answer(200, json.dumps({"uid": "u"}).encode()),
            Answer(200, b"retry: 1500\n\n" + told(("1-1", "log", page)) + b"id: 9-9\nevent: log\nda", kind),
            Answer(503, b"{}", {"Retry-After": "2"}),
            None,
            Answer(200, b":\n\n" + told(("2-1", "task", {"uid": "u"}), ("2-1-end", "end", {"status": "failed"})), kind),
        ]
        events = list(sandbox.get("u").events())
        assert [event.kind for event in events] == ["log", "task", "end"]
        assert [asked.headers.get("Last-Event-ID") for asked in server.asked[1:]] == [None, "1-1", "1-1", "1-1"]
        assert 1.5 in clock.pauses or clock.pauses[0] == 1.0
        assert any(pause >= 2 for pause in clock.pauses)


HTML, EVENTS = {"Content-Type": "text/html"}, {"Content-Type": "text/event-stream"}


@pytest.mark.parametrize("answer", [Answer(200, b"<html>", HTML), Answer(200), Answer(200, b"data: {\n\n", EVENTS)])
def test_what_is_no_stream_of_events_is_told(answer: Answer) -> None:
    """As where a proxy wants people to sign in."""
    with serving() as server, Client(server.url, clock=NotedClock()) as sandbox:
        server.answers = [Answer(200, json.dumps({"uid": "u"}).encode()), *[answer] * 9, Answer(404)]
        task = sandbox.get("u")
        with pytest.raises(UnexpectedAnswer):
            list(task.events())
        assert len(server.asked) == 2


def test_a_stream_that_ends_at_once_is_not_asked_for_without_a_pause() -> None:
    clock = NotedClock()
    with serving() as server, Client(server.url, clock=clock) as sandbox:
        server.answers = [
            Answer(200, json.dumps({"uid": "u"}).encode()),
            Answer(200, b"retry: 0\n\n", EVENTS),
            Answer(200, b"retry: 9999999999999\n\n", EVENTS),
            Answer(404),
        ]
        with pytest.raises(NotFound):
            list(sandbox.get("u").events())
    assert all(0.1 <= pause <= 60 for pause in clock.pauses[-2:])


def test_events_are_taken_apart_wherever_they_are_cut() -> None:
    text = told(("1", "task", {"a": "b\u2028c\x85d"}), ("2", "end", {}))
    for size in range(1, len(text)):
        parser = EventParser()
        events = [event for at in range(0, len(text), size) for event in parser.feed(text[at : at + size])]
        assert events == [Event("task", {"a": "b\u2028c\x85d"}), Event("end", {})]
        assert parser.last_seen == "2"


def test_who_follows_misses_nothing_in_a_reload(make_instance: Callable[..., Instance], tmp_path: Path) -> None:
    instance = make_instance(SANDBOX_TASKS="tests.client.handlers").started()
    over, said = tmp_path / "over", list[str]()
    with Client(f"http://127.0.0.1:{instance.port}", retry_for=120) as sandbox:
        task = sandbox.create("client.talk", lines=3, until=str(over))

        def follow() -> None:
            said.extend(line.text for line in task.log(follow=True))

        thread = threading.Thread(target=follow)
        thread.start()
        eventually(lambda: len(list(task.log())) > 5)
        assert instance.circusctl("reload", "sandbox") == "ok\n"
        over.touch()
        thread.join(60)
        assert said == [line.text for line in task.log()]
    assert said[-1] == "last" and instance.stop() == 0
