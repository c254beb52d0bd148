"""What the page shows of logs, attempts, history and runners, and what it does to many tasks at once."""

import json
import time
from collections.abc import Callable
from copy import copy
from itertools import islice
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from service.store import AtWork, Change, Executing, Store
from service.store.tally import Tally
from service.tasks import moments
from service.tasks.document import Claim, Task, TaskError
from service.tasks.lines import Unstored
from service.web import token_file
from service.web.api import task_events
from service.web.app import Web
from tests.web.page.conftest import OWN, Guarded, Seen, create

EVIL = "\"'></pre><x-evil onx=1>"


def log(store: Store, uid: str, *lines: str, level: str = "info") -> None:
    unstored = Unstored(1)
    for line in lines:
        unstored.add(level, line)
    portion = unstored.take(lambda text: text)
    assert portion is not None
    store.logbook.write([(uid, portion)])


# --- the log and the attempts ------------------------------------------------------------------------


def test_a_tasks_log_is_shown_with_its_levels(open_page: FlaskClient, store: Store) -> None:
    uid = create(open_page)
    log(store, uid, "10 rows", EVIL, level="warning")
    page = open_page.get(f"/ui/tasks/{uid}")
    assert "10 rows" in page.text and 'class="line warning"' in page.text
    assert Seen(page).all("x-evil") == []
    [tail] = Seen(page).all("pre", id="lines")
    assert (tail["data-tail"], tail["data-last"]) == (f"/tasks/{uid}/events", "2")


def test_the_log_of_a_finished_task_is_not_followed(
    open_page: FlaskClient, store: Store, finish: Callable[..., None]
) -> None:
    uid = create(open_page)
    log(store, uid, "the end")
    finish(uid)
    page = open_page.get(f"/ui/tasks/{uid}")
    assert "the end" in page.text and "data-tail" not in Seen(page).all("pre", id="lines")[0]


def test_the_one_attempt_of_a_finished_task_is_told(
    open_page: FlaskClient, store: Store, finish: Callable[..., None]
) -> None:
    uid = create(open_page)
    found = store.read(uid)
    assert found is not None
    running = copy(found.task)
    running.status, running.revision, running.attempt = "running", 2, 1
    running.claim, running.started_at = Claim("ann:boot:7:abc", "token", "stream", "1-0"), moments.stamp(1e9)
    store.move([Change(found.text, found.task, running)])
    assert '<td class="cut">ann</td>' in open_page.get("/ui").text
    finish(uid)
    assert "succeeded" in open_page.get(f"/ui/tasks/{uid}").text.partition('id="attempts"')[2]


def test_attempts_are_listed_from_the_last_to_the_first(open_page: FlaskClient, finish: Callable[..., None]) -> None:
    uid = create(open_page)
    finish(uid, TaskError(type="ValueError", message=EVIL))
    open_page.post(f"/ui/tasks/{uid}/retry", headers=OWN)
    page = open_page.get(f"/ui/tasks/{uid}")
    assert page.status_code == 200 and Seen(page).all("x-evil") == []


def test_a_page_follows_events_with_its_cookie_and_sees_no_secrets(guarded: Guarded) -> None:
    key = {"Authorization": f"Bearer {guarded.secrets['write']}"}
    made = guarded.stranger().post(
        "/tasks", json={"type": "account.open", "args": {"name": "me", "pin_code": 987654}}, headers=key
    )
    assert made.status_code == 201, made.text
    path = f"/tasks/{made.json['uid']}/events"
    client = guarded.somebody("write")
    stream = client.get(path, headers={"Sec-Fetch-Site": "same-origin"}, buffered=False)
    assert stream.status_code == 200
    first = b"".join(next(stream.iter_encoded()) for _ in range(2))
    stream.close()
    assert b"event: task" in first and b"987654" not in first
    assert client.get(path, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 401
    assert guarded.stranger().get(path).status_code == 401
    assert client.get(path.removesuffix("/events")).status_code == 401


@pytest.mark.parametrize("way", ["a cookie", "a token"])
def test_a_stream_ends_soon_after_its_readers_token_was_removed(
    guarded: Guarded, store: Store, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    monkeypatch.setattr(task_events, "HEARTBEAT_SECONDS", 0.05)
    key = {"Authorization": f"Bearer {guarded.secrets['write']}"}
    uid = guarded.stranger().post("/tasks", json={"type": "echo"}, headers=key).json["uid"]
    client, headers = (guarded.somebody("write"), {}) if way == "a cookie" else (guarded.stranger(), key)
    with client.get(f"/tasks/{uid}/events", headers=headers, buffered=False) as stream:
        chunks = stream.iter_encoded()
        assert any(b"event: task" in next(chunks) for _ in range(2))
        assert next(chunks) == next(chunks) == b":\n\n"
        token_file.remove(guarded.file, "writeer")
        assert set(islice(chunks, 100)) <= {b":\n\n"}
        assert next(chunks, None) is None


def test_what_a_type_keeps_secret_stays_so_on_every_page(open_page: FlaskClient) -> None:
    made = open_page.post("/tasks", json={"type": "account.open", "args": {"name": "me", "pin_code": 987654}})
    uid = made.json["uid"]
    for place in ("/ui", "/ui/tasks", f"/ui/tasks/{uid}", f"/ui/types/account.open?from={uid}"):
        assert "987654" not in open_page.get(place).text, place
    again = open_page.post(
        "/ui/types/account.open", data={"from": uid, "arg:name": "you", "arg:pin_code": "[removed]"}, headers=OWN
    )
    stored = open_page.get(again.headers["Location"].removeprefix("/ui")).json["args"]
    assert stored == {"name": "you", "pin_code": 987654}


def test_a_form_shows_nothing_of_a_task_of_another_type(open_page: FlaskClient) -> None:
    """Its own type would not hide what that one hides."""
    made = open_page.post("/tasks", json={"type": "account.open", "args": {"name": "me", "pin_code": 987654}})
    assert "987654" not in open_page.get(f"/ui/types/echo?from={made.json['uid']}").text


# --- history and runners -----------------------------------------------------------------------------


def settled(queue: str, kind: str, status: str, seconds: float) -> Task:
    return Task(
        uid="0" * 64, type=kind, queue=queue, status=status, created_at="2026-01-01T00:00:00.000000Z",
        started_at="2026-01-01T00:00:00.000000Z", duration=seconds, attempt=1,
    )  # fmt: skip


@pytest.mark.parametrize("span", ["1h", "2d", "31d", "nonsense"])
def test_each_span_has_its_charts_and_tables(make_app: Callable[..., Web], store: Store, span: str) -> None:
    tally = Tally()
    tally.outcomes(time.time(), [settled("default", "echo", "failed", 0.5)] * 30, [""] * 30)
    store.history.add("a writer", 1, tally.take())
    store.history.gauge(time.time(), {"queue:default": (7, 2, 0, 3), "queue:reports": (1, 0, 0, 9)})
    page = make_app().test_client().get(f"/ui?span={span}")
    charts = {chart["id"]: json.loads(chart["data-chart"]) for chart in Seen(page).all("div") if "data-chart" in chart}
    assert max(charts["curves-failures"]["data"][1]) > 0
    depth, oldest = (charts[name]["data"][1] for name in ("curves-depth", "curves-oldest"))
    assert [set(values) - {None} for values in (depth, oldest)] == [{8}, {9}]  # at any place: the clock goes on
    assert page.text.count('<details id="table-') == len(charts)


def test_queues_and_types_show_rates_failures_and_times(make_app: Callable[..., Web], store: Store) -> None:
    tally = Tally()
    tally.outcomes(time.time(), [settled("default", "echo", "failed", 0.5)] * 1234, [""] * 1234)
    store.history.add("a writer", 1, tally.take())
    client = make_app().test_client()
    for place in ("/ui/queues", "/ui/types"):
        assert '<td class="number">1,234</td>' in client.get(place).text


def test_runners_are_shown_with_what_they_execute(make_app: Callable[..., Web], store: Store) -> None:
    executing = [Executing(uid="a" * 64, type=EVIL, queue="default", since="2026-01-01T00:00:00.000000Z")]
    store.roster.enter(
        AtWork(
            runner="host:1", host=EVIL, pid=4711, release="/srv/releases/42", queues=["default"], threads=3,
            started_at="2026-01-01T00:00:00.000000Z", memory=41943040, executing=executing,
        )
    )  # fmt: skip
    client = make_app().test_client()
    page = client.get("/ui/runners")
    assert Seen(page).all("x-evil") == []
    for words in ("4711", "40.0 MB", "1 of 3", f"/ui/tasks/{'a' * 64}", ">42<"):
        assert words in page.text
    assert "<b>1 of 3</b><span>lanes busy</span>" in client.get("/ui").text


# --- many at once ------------------------------------------------------------------------------------


def test_all_that_match_are_acted_on_after_a_question_that_says_how_many(
    open_page: FlaskClient, store: Store, tmp_path: Path
) -> None:
    for number in range(3):
        create(open_page, args={"message": number})
    create(open_page, type="report.build", args={"month": "May"})
    listed = open_page.get("/ui/tasks?type=echo")
    [to] = [link["href"] for link in Seen(listed).all("a") if "do=cancel" in str(link["href"])]
    question = open_page.get(to)
    assert "Cancel 3 tasks?" in question.text and Seen(question).hidden("type") == "echo"
    assert store.index.page(limit=9)[0][0].type == "report.build", "nothing is done yet"

    done = open_page.post("/ui/tasks/all", data={"do": "cancel", "type": "echo"}, headers=OWN)
    assert done.headers["Location"] == "/ui/tasks?type=echo", "the filter stays"
    [act] = [task for task in store.index.page(limit=9)[0] if task.type == "sandbox.cancel"]
    assert json.loads(bytes(act.args)) == {"filter": {"type": ["echo"]}}
    assert f"/ui/tasks/{act.uid}" in open_page.get("/ui/tasks").text
    lines = [json.loads(line) for line in (tmp_path / "audit.log").read_text().splitlines()]
    assert lines[-1]["did"] == "sandbox.cancel"


def test_without_a_filter_nothing_is_offered_or_done(open_page: FlaskClient, store: Store) -> None:
    create(open_page)
    assert "all that match" not in open_page.get("/ui/tasks").text
    assert open_page.get("/ui/tasks/all?do=retry").status_code == 422
    assert open_page.post("/ui/tasks/all", data={"do": "retry"}, headers=OWN).status_code == 422
    assert len(store.index.page(limit=9)[0]) == 1


@pytest.mark.parametrize(
    ("query", "offered"),
    [("status=failed", ["retry"]), ("status=running", ["cancel"]), ("status=succeeded", []),
     ("status=failed,queued", ["retry", "cancel"]), ("queue=default", ["retry", "cancel"])],
)  # fmt: skip
def test_only_what_can_be_done_is_offered(open_page: FlaskClient, query: str, offered: list[str]) -> None:
    page = open_page.get(f"/ui/tasks?{query}")
    assert [do for do in ("retry", "cancel") if f"do={do}" in page.text] == offered


def test_several_statuses_and_moments_as_people_type_them(open_page: FlaskClient) -> None:
    uid = create(open_page)
    create(open_page, delay=60)
    query = "status=queued&status=failed&created_after=2026-01-01 10:00&created_before=2200-01-01"
    page = open_page.get(f"/ui/tasks?{query}")
    assert page.status_code == 200 and f"row-{uid}" in page.text and page.text.count("data-row") == 1
    seen = Seen(page)
    assert seen.all("input", name="created_after")[0]["value"] == "2026-01-01T10:00:00Z"
    assert f"row-{uid}" in open_page.get(f"/ui/tasks?q={uid[:10]}").text
    assert f"row-{uid}" not in open_page.get("/ui/tasks?q=args.message=no").text


def test_who_may_only_read_cannot_act_on_many(guarded: Guarded) -> None:
    client = guarded.somebody("read")
    assert "all that match" not in client.get("/ui/tasks?status=failed").text
    assert client.post("/ui/tasks/all", data={"do": "cancel", "status": "queued"}, headers=OWN).status_code == 403
