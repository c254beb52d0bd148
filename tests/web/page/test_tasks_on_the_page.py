"""Finding tasks, and doing something to them, with plain links and forms."""

import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from msgspec import Raw

from service.store import Change, Store
from service.tasks import moments
from service.tasks.document import TaskError
from service.tasks.registry import Registry
from service.web.app import Web
from tests.web.page.conftest import OWN, Guarded, Seen, create, said

BIG = 123456789012345678


def listed(client: FlaskClient, query: str = "") -> list[str]:
    """The UIDs in the list, from the first on."""
    return [row["id"].removeprefix("row-") for row in Seen(client.get(f"/ui/tasks{query}")).all("tr") if "id" in row]


def test_a_browser_at_the_root_is_sent_to_the_page_and_a_program_is_not(open_page: FlaskClient) -> None:
    sent = open_page.get("/", headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert (sent.status_code, sent.headers["Location"]) == (303, "/ui")
    other = open_page.get("/", headers={"Accept": "*/*"})
    assert (other.status_code, other.content_type) == (404, "application/problem+json")


def test_the_list_is_newest_first_and_goes_on_to_older_ones(open_page: FlaskClient) -> None:
    uids = [create(open_page) for _ in range(5)]
    assert listed(open_page) == uids[::-1]
    first = open_page.get("/ui/tasks?limit=2&type=echo")
    assert listed(open_page, "?limit=2&type=echo") == [uids[4], uids[3]]
    [older] = Seen(first).all("a", rel="next")
    assert "type=echo" in older["href"]
    assert listed(open_page, older["href"].removeprefix("/ui/tasks")) == [uids[2], uids[1]]


def test_filters_stand_in_the_address_and_in_the_form(open_page: FlaskClient) -> None:
    create(open_page)
    failed = create(open_page, type="report.build", args={"month": "May"})
    open_page.delete(f"/tasks/{failed}")
    query = "?status=cancelled&type=report.build&queue=reports&created_by="
    assert listed(open_page, query) == [failed]
    seen = Seen(open_page.get(f"/ui/tasks{query}"))
    assert seen.all("input", name="type")[0]["value"] == "report.build"
    assert len(seen.all("option", selected=None)) == 2  # type: ignore[arg-type]
    assert listed(open_page, "?status=queued&type=report.build") == []


@pytest.mark.parametrize(
    "query", ["?status=odd", "?limit=0", "?cursor=x", "?colour=red", "?q=abc", "?created_after=soon"]
)
def test_a_filter_that_makes_no_sense_is_told_on_the_page(open_page: FlaskClient, query: str) -> None:
    answer = open_page.get(f"/ui/tasks{query}")
    assert answer.status_code == 422 and 'role="alert"' in answer.text and "<table>" in answer.text


def test_a_whole_uid_leads_to_its_task(open_page: FlaskClient) -> None:
    uid = create(open_page)
    assert open_page.get(f"/ui/tasks?q= {uid} ").headers["Location"] == f"/ui/tasks/{uid}"
    assert open_page.get(f"/ui/tasks/{'0' * 64}").status_code == 404


def test_it_is_asked_first_how_many_were_chosen(open_page: FlaskClient) -> None:
    uids = [create(open_page) for _ in range(3)]
    form = {"do": "cancel", "uid": uids[1:], "back": "/ui/tasks?type=echo"}
    asked = open_page.post("/ui/tasks/chosen", data=form, headers=OWN)
    assert asked.status_code == 200 and "Cancel 2 tasks?" in asked.text and "type=echo" in asked.text
    assert len(listed(open_page, "?status=queued")) == 3, "nothing is done yet"


def test_what_was_chosen_is_done_and_told_and_the_filter_stays(
    open_page: FlaskClient, finish: Callable[..., None]
) -> None:
    uids = [create(open_page) for _ in range(3)]
    finish(uids[0])
    back = "/ui/tasks?type=echo&limit=3"
    form = {"do": "cancel", "uid": uids, "back": back, "sure": "yes"}
    answer = open_page.post("/ui/tasks/chosen", data=form, headers=OWN)
    assert answer.headers["Location"] == back
    words = said(open_page, answer)
    assert words.startswith("2 tasks were cancelled. 1 task was left as before: ")
    assert 'class="said' not in open_page.get(back).text, "it is said once"
    assert listed(open_page, "?status=cancelled") == [uids[2], uids[1]]
    again = open_page.post("/ui/tasks/chosen", data=form | {"do": "retry", "uid": uids[1]}, headers=OWN)
    assert said(open_page, again) == "1 task was queued again."


def test_nothing_chosen_and_nothing_known_to_do_change_nothing(open_page: FlaskClient) -> None:
    uid = create(open_page)
    nothing = open_page.post("/ui/tasks/chosen", data={"do": "cancel", "back": "/ui/tasks"}, headers=OWN)
    assert said(open_page, nothing).startswith("No task was chosen")
    assert open_page.post("/ui/tasks/chosen", data={"do": "explode", "uid": uid}, headers=OWN).status_code == 422
    assert listed(open_page, "?status=queued") == [uid]


# --- one task ----------------------------------------------------------------------------------------


def test_numbers_are_shown_to_the_last_digit(open_page: FlaskClient, store: Store) -> None:
    uid = create(open_page, args={"message": [BIG, 0.1, 1e-7]})
    text = open_page.get(f"/ui/tasks/{uid}").text
    assert str(BIG) in text and "0.1" in text and "1e-7" in text.replace("1e-07", "1e-7")


def test_secrets_stay_hidden_in_lists_and_on_the_tasks_own_page(open_page: FlaskClient) -> None:
    secrets = {"password": "hunter2", "deep": [{"api_key": "hunter2"}], "url": "https://me:hunter2@host/"}
    uid = create(open_page, args={"message": secrets})
    for place in ("/ui/tasks", f"/ui/tasks/{uid}", f"/ui/types/echo?from={uid}", "/ui"):
        text = open_page.get(place).text
        assert "hunter2" not in text
    assert "[removed]" in open_page.get(f"/ui/tasks/{uid}").text


def test_a_tasks_page_shows_what_became_of_it(make_app: Callable[..., Web], finish: Callable[..., None]) -> None:
    client = make_app(sentry_url="https://sentry.example/?query={event_id}").test_client()
    uid = create(client, args={"message": "hi"})
    finish(uid, TaskError(type="ValueError", message="no such month", event_id="ab/c"))
    page = client.get(f"/ui/tasks/{uid}")
    for words in ("failed", "ValueError", "no such month", "500 ms", "https://sentry.example/?query=ab%2Fc"):
        assert words in page.text
    retried = client.post(f"/ui/tasks/{uid}/retry", headers=OWN)
    assert said(client, retried) == "The task is queued again."
    cancelled = client.post(f"/ui/tasks/{uid}/cancel", headers=OWN)
    assert said(client, cancelled) == "The task is cancelled."
    again = client.post(f"/ui/tasks/{uid}/cancel", headers=OWN)
    assert said(client, again).startswith("Nothing was changed: ")
    purged = client.post(f"/ui/tasks/{uid}/purge", headers=OWN)
    assert said(client, purged) == f"The task {uid[:8]} is removed."
    assert client.get(f"/ui/tasks/{uid}").status_code == 404


def test_progress_is_shown_while_it_runs(open_page: FlaskClient, store: Store) -> None:
    uid = create(open_page)
    found = store.read(uid)
    assert found is not None
    running = found.task.__copy__()  # type: ignore[attr-defined]
    running.status, running.revision, running.attempt = "running", 2, 1
    running.started_at = moments.stamp(1_000_000_000.0)
    running.progress = Raw(b'{"fraction": 0.425, "message": "<page> 3"}')
    store.move([Change(found.text, found.task, running)])
    page = open_page.get(f"/ui/tasks/{uid}")
    assert Seen(page).all("progress")[0]["value"] == "42.5" and "&lt;page&gt; 3" in page.text
    assert 'data-refresh="2"' in page.text


def test_a_large_value_is_shown_when_one_asks_for_it(open_page: FlaskClient) -> None:
    uid = create(open_page, args={"message": "x" * 100_000})
    assert "x" * 1000 not in open_page.get(f"/ui/tasks/{uid}").text
    assert "x" * 100_000 in open_page.get(f"/ui/tasks/{uid}?whole=1").text


# --- creating ----------------------------------------------------------------------------------------


def test_a_type_has_a_form_made_from_its_schema(open_page: FlaskClient) -> None:
    seen = Seen(open_page.get("/ui/types/report.build"))
    assert seen.all("input", name="arg:rows")[0]["placeholder"] == "10"
    assert seen.all("input", name="arg:month")
    form = {"arg:month": "May", "arg:rows": str(2**62), "delay": "60", "max_attempts": "7", "timeout": "2.5"}
    made = open_page.post("/ui/types/report.build", data=form, headers=OWN)
    task = open_page.get(made.headers["Location"].removeprefix("/ui")).json
    assert task["args"] == {"month": "May", "rows": 2**62}
    assert (task["status"], task["queue"], task["max_attempts"], task["timeout"]) == ("scheduled", "reports", 7, 2.5)


def test_a_form_that_is_sent_twice_creates_one_task_and_another_one_creates_another(open_page: FlaskClient) -> None:
    nonce = Seen(open_page.get("/ui/types/echo")).hidden("nonce")
    form = {"nonce": nonce, "arg:message": '"x"'}
    first, second = (open_page.post("/ui/types/echo", data=form, headers=OWN) for _ in range(2))
    assert first.status_code == 303 and first.headers["Location"] == second.headers["Location"]
    other = open_page.post("/ui/types/echo", data=form | {"arg:message": '"y"'}, headers=OWN)
    assert other.status_code == 303 and other.headers["Location"] != first.headers["Location"]
    assert len(listed(open_page)) == 2


@pytest.mark.parametrize(
    ("form", "words"),
    [
        ({"arg:month": "May", "arg:rows": "ten"}, "rows: write a number"),
        ({"arg:month": "May", "arg:rows": "1.5"}, "Expected `int`"),
        ({"arg:month": "May", "delay": "soon"}, "delay: write a number"),
        ({"arg:month": "May", "queue": "nowhere"}, "is not served here"),
        ({"how": "json", "json": "{"}, "the JSON cannot be read"),
        ({"how": "json", "json": "[1]"}, "write a JSON object"),
        ({"how": "json", "json": '{"month": 5}'}, "Expected `str`"),
    ],
)
def test_what_cannot_be_created_is_told_and_what_was_typed_stays(
    open_page: FlaskClient, form: dict[str, str], words: str
) -> None:
    answer = open_page.post("/ui/types/report.build", data=form, headers=OWN)
    assert answer.status_code == 422 and words in answer.text.replace("&#39;", "'")
    seen = Seen(answer)
    for name, value in form.items():
        if name.startswith("arg:"):
            assert seen.all("input", name=name)[0]["value"] == value
    assert listed(open_page) == []


def test_json_is_taken_as_it_is_typed(open_page: FlaskClient) -> None:
    form = {"how": "json", "json": f'{{"message": {{"n": {BIG}, "t": "ü"}}}}'}
    made = open_page.post("/ui/types/echo", data=form, headers=OWN)
    assert open_page.get(made.headers["Location"].removeprefix("/ui")).json["args"]["message"] == {"n": BIG, "t": "ü"}


def test_a_task_runs_again_with_changes_and_its_secrets_stay(open_page: FlaskClient) -> None:
    uid = create(open_page, args={"message": {"password": "hunter2", "n": 1}})
    seen = Seen(open_page.get(f"/ui/types/echo?from={uid}"))
    assert seen.hidden("from") == uid
    form = {"from": uid, "arg:message": '{"password": "[removed]", "n": 2}'}
    made = open_page.post("/ui/types/echo", data=form, headers=OWN)
    task = open_page.get(made.headers["Location"].removeprefix("/ui")).json
    assert task["args"] == {"message": {"password": "hunter2", "n": 2}}
    form = {"from": uid, "arg:message": '{"pass": "[removed]", "n": 2}'}
    refused = open_page.post("/ui/types/echo", data=form, headers=OWN)
    assert refused.status_code == 422 and "message: write what is to stand for [removed]" in refused.text


def sent_back(seen: Seen) -> dict[str, str]:
    """What a browser sends if nobody has changed anything."""
    fields = [("from", seen.hidden("from"))]
    fields += [(each["name"], each["value"]) for each in seen.all("input") if each.get("name", "").startswith("arg:")]
    fields += re.findall(r'<textarea [^>]*name="(arg:[^"]*)"[^>]*>\n(.*?)</textarea>', seen.text, re.DOTALL)
    for name, options in re.findall(r'<select [^>]*name="(arg:[^"]*)">(.*?)</select>', seen.text, re.DOTALL):
        fields += [(name, chosen) for chosen in ["", *re.findall("<option selected>(.*?)</option>", options)]]
    return {name: html.unescape(value) for name, value in fields}


@pytest.mark.parametrize(
    "args",
    [
        {"to": None, "text": "", "copies": None, "express": None, "paper": None, "more": None},
        {"to": "", "text": " ", "copies": 0, "express": False, "paper": "thick", "more": ""},
        {"to": "null", "text": "a\nb", "more": {"null": None}},
    ],
)
def test_what_is_left_as_it_was_is_sent_as_it_was(open_page: FlaskClient, args: dict[str, Any]) -> None:
    uid = create(open_page, type="letter.send", args=args)
    form = sent_back(Seen(open_page.get(f"/ui/types/letter.send?from={uid}")))
    made = open_page.post("/ui/types/letter.send", data=form, headers=OWN)
    assert made.status_code == 303, made.text
    assert open_page.get(made.headers["Location"].removeprefix("/ui")).json["args"] == args


def test_an_argument_that_was_nothing_can_be_changed(open_page: FlaskClient) -> None:
    uid = create(open_page, type="letter.send", args={"to": None, "text": "", "copies": None})
    form = {"from": uid, "arg:to": "jo", "arg:text": "", "arg:copies": "2"}
    made = open_page.post("/ui/types/letter.send", data=form, headers=OWN)
    args = open_page.get(made.headers["Location"].removeprefix("/ui")).json["args"]
    assert args == {"to": "jo", "text": "", "copies": 2}


@pytest.mark.parametrize(
    ("typed", "meant"), [("hello", "hello"), ("12", 12), ('"12"', "12"), ('["a", 1]', ["a", 1]), (" null ", None)]
)
def test_an_argument_that_may_be_anything_is_json_or_else_text(
    open_page: FlaskClient, typed: str, meant: object
) -> None:
    made = open_page.post("/ui/types/echo", data={"arg:message": typed}, headers=OWN)
    assert open_page.get(made.headers["Location"].removeprefix("/ui")).json["args"] == {"message": meant}


@pytest.mark.parametrize("typed", ['{"a": 1', '"half', "[1,"])
def test_json_that_is_not_whole_is_not_taken_for_text(open_page: FlaskClient, typed: str) -> None:
    answer = open_page.post("/ui/types/echo", data={"arg:message": typed}, headers=OWN)
    assert answer.status_code == 422 and "message: write JSON" in answer.text


def test_an_unknown_type_has_no_form(open_page: FlaskClient) -> None:
    assert open_page.get("/ui/types/nothing").status_code == 404


def test_without_types_the_page_says_which_setting_names_them(make_app: Callable[..., Web]) -> None:
    assert "SANDBOX_TASKS" in make_app(registry=Registry()).test_client().get("/ui/types").text


# --- the other pages ---------------------------------------------------------------------------------


def test_the_overview_says_what_waits_runs_and_crashes(make_app: Callable[..., Web], tmp_path: Path) -> None:
    (tmp_path / "sandbox-runner").write_text("crashed 5 times in a row")
    client = make_app(throttled=tmp_path).test_client()
    create(client)
    text = client.get("/ui").text
    assert "crashed 5 times in a row" in text and "<b>1</b><span>waiting</span>" in text


def test_the_queues_are_shown_with_those_that_nobody_serves(
    open_page: FlaskClient, make_app: Callable[..., Web]
) -> None:
    create(open_page, type="report.build", args={"month": "May"})
    text = make_app(queues=("default",)).test_client().get("/ui/queues").text
    assert "default" in text and "not served here" in text


def test_the_audit_log_is_shown_newest_first_and_by_task(guarded: Guarded) -> None:
    client = guarded.somebody("write")
    made = [client.post("/ui/types/echo", data={"arg:message": str(n)}, headers=OWN) for n in range(2)]
    uids = [answer.headers["Location"].rpartition("/")[2] for answer in made]
    text = client.get("/ui/audit").text
    assert text.index(uids[1][:8]) < text.index(uids[0][:8]) < text.index("signed_in", text.index("<tbody>"))
    one = client.get(f"/ui/audit?uid={uids[0]}&by=writeer").text
    assert f"/ui/tasks/{uids[0]}" in one and f"/ui/tasks/{uids[1]}" not in one


def test_without_redis_the_page_says_so(make_app: Callable[..., Web], cut_off: Store) -> None:
    answer = make_app(store=cut_off).test_client().get("/ui")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert "<h1>Not available now</h1>" in answer.text


def test_a_task_is_created_with_a_priority_and_its_page_shows_it(open_page: FlaskClient) -> None:
    form = {"arg:message": "now", "how": "fields", "priority": "high"}
    answer = open_page.post("/ui/types/echo", data=form, headers=OWN)
    page = open_page.get(answer.headers["Location"]).text
    assert "<dt>Priority</dt><dd>high</dd>" in page
    uid = answer.headers["Location"].rpartition("/")[2]
    assert open_page.get(f"/tasks/{uid}").json["priority"] == "high"
    again = open_page.get(f"/ui/types/echo?from={uid}").text
    assert "<option selected>high</option>" in again
    usual = open_page.post("/ui/types/echo", data={"how": "fields", "priority": ""}, headers=OWN)
    assert "<dt>Priority</dt><dd>normal</dd>" in open_page.get(usual.headers["Location"]).text
    assert open_page.post("/ui/types/echo", data={"how": "fields", "priority": "x"}, headers=OWN).status_code == 422


def test_a_task_shows_its_key_who_has_it_and_where_it_comes_from(open_page: FlaskClient, store: Store) -> None:
    key = {"unique": {"key": "<b>"}}
    first = create(open_page, **key)
    open_page.delete(f"/tasks/{first}")
    second = create(open_page, **key)
    page = open_page.get(f"/ui/tasks/{first}")
    assert "&lt;b&gt;</code>, until it has finished; " in page.text
    assert [link["href"] for link in Seen(page).all("a") if link["href"] == f"/ui/tasks/{second}"]
    assert "has it now" not in open_page.get(f"/ui/tasks/{second}").text
    refused = open_page.post(f"/ui/tasks/{first}/retry", headers=OWN, follow_redirects=True)
    assert f"the task {second} has the same unique key" in refused.text

    found = store.read(second)
    assert found is not None
    child = found.task.__copy__()  # type: ignore[attr-defined]
    child.uid, child.parent, child.unique = store.uid("c" * 59), first, None
    store.create([child])
    assert [link["href"] for link in Seen(open_page.get(f"/ui/tasks/{child.uid}")).all("a") if first in link["href"]]
    [children] = [link["href"] for link in Seen(page).all("a") if "parent=" in link["href"]]
    assert listed(open_page, children.removeprefix("/ui/tasks")) == [child.uid]
    assert open_page.get("/ui/tasks?parent=x").status_code == 422


def test_an_empty_page_does_not_say_that_there_is_nothing_while_older_ones_are_not_looked_at(
    open_page: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert open_page.post("/tasks/batch", json=[{"type": "echo"}] * 30).status_code == 201
    monkeypatch.setattr("service.store.index.PAGE_SECONDS", -1.0)
    page = open_page.get("/ui/tasks?created_by=nobody")
    assert "None so far" in page.text
    [older] = Seen(page).all("a", rel="next")
    assert "There are no such tasks" in open_page.get(older["href"]).text
