"""A task's log and its attempts, as clients read them."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from flask.testing import FlaskClient

from service.store import Change, Store
from service.tasks import transitions
from service.tasks.document import Claim
from service.tasks.lines import Portion

AT = 1_700_000_000_000_000
MOMENT = "2023-11-14T22:13:20.00000"


def say(store: Store, uid: str, *texts: str, level: str = "info", attempt: int = 1, skipped: int = 0) -> None:
    last = store.logbook.read(uid).last
    lines = [msgspec.json.encode((AT + last + number, level, attempt, text)) for number, text in enumerate(texts, 1)]
    store.logbook.write([(uid, Portion(lines, skipped))])


def claim(store: Store, uid: str) -> None:
    found = store.read(uid)
    assert found is not None
    after = transitions.claimed(found.task, Claim("host:boot:1:x", "t", "sandbox:{0}:queue:default", "1-1"))
    assert store.move([Change(found.text, found.task, after)]).stored


@pytest.fixture
def uid(client: FlaskClient) -> str:
    return str(client.post("/tasks", json={"type": "echo"}).json["uid"])


def test_the_log_is_read_from_any_line_on(client: FlaskClient, store: Store, uid: str) -> None:
    path = f"/tasks/{uid}/log"
    assert client.get(path).json == {"lines": [], "next": "0", "dropped": 0}
    say(store, uid, "one", "two\nlines")
    say(store, uid, "three", level="warning", attempt=2)
    answer = client.get(f"{path}?limit=2").json
    assert answer == {
        "lines": [
            {"id": "1", "at": f"{MOMENT}1Z", "level": "info", "text": "one", "attempt": 1},
            {"id": "2", "at": f"{MOMENT}2Z", "level": "info", "text": "two\nlines", "attempt": 1},
        ],
        "next": "2",
        "dropped": 0,
    }
    assert [line["text"] for line in client.get(f"{path}?after=2").json["lines"]] == ["three"]
    assert client.get(f"{path}?after=3").json == {"lines": [], "next": "3", "dropped": 0}
    say(store, uid, "late", skipped=40)
    assert client.get(f"{path}?after=3").json["dropped"] == 40


def test_for_a_terminal_it_is_text(client: FlaskClient, store: Store, uid: str) -> None:
    say(store, uid, "one", "two\n2023-11-14T22:13:20.000001Z error forged", "\x1b]0;title\x07", skipped=1)
    answer = client.get(f"/tasks/{uid}/log", headers={"Accept": "text/plain"})
    assert (answer.content_type, answer.headers["Vary"]) == ("text/plain; charset=utf-8", "Accept")
    assert answer.headers["Link"] == f'</tasks/{uid}/log?after=4>; rel="next"'
    assert answer.text.splitlines() == [
        "(1 older lines are gone)",
        f"{MOMENT}1Z info    one",
        f"{MOMENT}2Z info    two",
        "    2023-11-14T22:13:20.000001Z error forged",
        rf"{MOMENT}3Z info    \x1b]0;title\x07",
    ]
    for accept in ("*/*", "application/json", "text/plain;q=0.5, application/json"):
        assert client.get(f"/tasks/{uid}/log", headers={"Accept": accept}).is_json


@pytest.mark.parametrize("part", ["log", "attempts", "events"])
def test_without_a_task_there_is_nothing(client: FlaskClient, part: str) -> None:
    for uid in ("0" * 64, "x"):
        answer = client.get(f"/tasks/{uid}/{part}")
        assert (answer.status_code, answer.content_type) == (404, "application/problem+json")


@pytest.mark.parametrize("query", ["after=x", "after=-1", "limit=0", "limit=1001", "page=1", "after=1&after=2"])
def test_any_other_query_is_refused(client: FlaskClient, uid: str, query: str) -> None:
    assert client.get(f"/tasks/{uid}/log?{query}").status_code == 422


@pytest.mark.parametrize("part", ["log", "attempts", "events"])
def test_they_are_only_read(client: FlaskClient, uid: str, part: str) -> None:
    path = f"/tasks/{uid}/{part}"
    head = client.head(path)
    assert (head.status_code, head.data) == (200, b"")
    assert client.post(path).status_code == 405
    assert set(client.options(path).headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}


def test_each_attempt_is_told_with_all_its_fields(
    client: FlaskClient, store: Store, uid: str, finish: Callable[..., None]
) -> None:
    path = f"/tasks/{uid}/attempts"
    assert client.get(path).json == {"attempts": []}
    claim(store, uid)
    running: dict[str, Any] = {
        "attempt": 1, "runner": "host:boot:1:x", "started_at": None, "finished_at": None, "duration": None,
        "outcome": None, "error": None,
    }  # fmt: skip
    assert client.get(path).json == {"attempts": [running]}
    finish(uid)
    [done] = client.get(path).json["attempts"]
    assert done.keys() == running.keys()
    assert (done["outcome"], done["runner"], done["duration"]) == ("succeeded", "host:boot:1:x", 0.5)


def test_a_purge_takes_them_along(client: FlaskClient, store: Store, uid: str, finish: Callable[..., None]) -> None:
    claim(store, uid)
    say(store, uid, "one")
    finish(uid)
    assert client.delete(f"/tasks/{uid}?purge").status_code == 200
    assert [client.get(f"/tasks/{uid}/{part}").status_code for part in ("log", "attempts")] == [404, 404]
    assert store.logbook.read(uid).lines == []
