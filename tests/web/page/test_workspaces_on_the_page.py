"""The page of the workspaces: its form, its list, one of them; and who sees what."""

import re
from itertools import islice
from pathlib import Path
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from service.store import Store
from service.tasks.lines import Unstored
from service.web import token_file
from service.web.api import task_events
from service.workspaces.record import ASLEEP, CREATING, DELETE_FAILED, DELETED, FAILED, READY, STATES, STOPPED
from tests.web.estate import EMAIL, SLUG, Estate
from tests.web.page.conftest import OWN, Seen, cookie, said
from tests.web.page.test_safety import EVIL, harmless

PLACE = f"/ui/workspaces/{SLUG}"
OTHER = "al@example.org"


def sent(client: FlaskClient, path: str, status: int = 303, **form: str) -> TestResponse:
    answer = client.post(path, data=form, headers=OWN)
    assert answer.status_code == status, answer.text
    return answer


def deeds(page: TestResponse) -> set[str]:
    return {
        form["action"].rpartition("/")[2] for form in Seen(page).all("form", method="post") if SLUG in form["action"]
    }


def signed_in(estate: Estate, scope: str) -> FlaskClient:
    app, secrets = estate.guarded()
    client = app.test_client()
    sent(client, "/ui/sign-in", token=secrets[scope])
    return client


def test_an_email_and_a_button_make_a_workspace(estate: Estate) -> None:
    answer = sent(estate.client, "/ui/workspaces", email=f" {EMAIL} ")
    assert answer.headers["Location"] == PLACE
    assert said(estate.client, answer) == "The workspace is being built."
    assert (
        said(estate.client, sent(estate.client, "/ui/workspaces", email=EMAIL)) == "This workspace was there already."
    )
    [task] = estate.client.get("/tasks").json["tasks"]
    page = estate.client.get(PLACE)
    assert EMAIL in page.text and "workspace.create is queued" in page.text
    [tail] = Seen(page).all("pre", id="lines")
    assert tail["data-tail"] == f"{PLACE}/events/{task['uid']}"
    assert 'http-equiv="refresh"' in page.text
    assert f'<a href="{PLACE}">{EMAIL}</a>' in estate.client.get("/ui/workspaces").text


@pytest.mark.parametrize("email", ["", "jo", EVIL, EVIL + "@x.de", "a@b\r\nx: y", "a\u202eb@x.de"])
def test_what_is_no_email_is_said_to_be_none(estate: Estate, email: str) -> None:
    answer = sent(estate.client, "/ui/workspaces", 422, email=email)
    harmless(answer)
    assert "\u202e" not in answer.text and Seen(answer).all("p", role="alert")
    assert estate.client.get("/tasks").json["tasks"] == []


def test_that_nothing_is_isolated_stands_where_workspaces_are_shown(estate: Estate) -> None:
    estate.record()
    plain = estate.app(premises=estate.premises._replace(code_runs_as="deploy")).test_client()
    for path in ("/ui/workspaces", PLACE):
        assert not Seen(estate.client.get(path)).all("p", id="not-isolated")
        assert Seen(plain.get(path)).all("p", id="not-isolated")
        assert "their code runs as the user <code>deploy</code>" in plain.get(path).text
        assert "docs/steward.md" in plain.get(path).text


@pytest.mark.parametrize(
    ("status", "words"), [(0, "They passed."), (2, "They failed: the command ended with status 2.")]
)
def test_how_the_tests_ended_is_said_in_words_with_a_link_to_their_task(
    estate: Estate, status: int, words: str
) -> None:
    uid = estate.client.post("/tasks", json={"type": "echo"}).json["uid"]
    at = "2026-11-20T23:47:58.000000Z"
    estate.record(test={"passed": status == 0, "status": status, "sha": "5" * 40, "at": at, "task": uid})
    page = estate.client.get(PLACE)
    assert f"<dd>{words}</dd>" in page.text and f"<code>{'5' * 12}</code>" in page.text
    assert Seen(page).all("a", href=f"/ui/tasks/{uid}") and "passed</dt>" not in page.text


def test_another_python_is_chosen_from_those_that_there_are(estate: Estate) -> None:
    estate.record(python="python3")
    assert "<option>python3</option><option>python3.12</option>" in estate.client.get(PLACE).text
    assert "there are: python3, python3.12" in said(
        estate.client, sent(estate.client, f"{PLACE}/rebuild", python="3.99")
    )


def test_that_there_are_too_many_stands_beside_the_form(estate: Estate) -> None:
    for name in "abcd":
        estate.record(f"{name}@x.de")
    assert "delete one first" in sent(estate.client, "/ui/workspaces", 429, email=EMAIL).text


def test_the_list_says_how_each_is(estate: Estate) -> None:
    assert "There are no workspaces yet." in estate.client.get("/ui/workspaces").text
    estate.record(unpushed=["3 commits", "1 file"], step="health")
    estate.record(OTHER, state=DELETE_FAILED, address=None)
    estate.record("gone@x.de", state=DELETED)
    text = estate.client.get("/ui/workspaces").text
    assert f'<a href="http://{SLUG}.localhost:8080" rel="noreferrer">' in text
    for words in (EMAIL, OTHER, "ready", "delete failed", "health", "2: 3 commits"):
        assert words in text
    assert "gone@x.de" not in text
    assert 'aria-current="page">Workspaces' in text


@pytest.mark.parametrize("state", [*STATES])
def test_each_state_offers_what_it_allows(estate: Estate, state: str) -> None:
    estate.record(state=state)
    offered = deeds(estate.client.get(PLACE))
    if state == DELETED:
        assert offered == set()
        return
    assert "delete" in offered
    assert ("resume" in offered) is (state not in (READY, STOPPED, ASLEEP))
    assert ("update" in offered) is (state in (READY, STOPPED, ASLEEP, FAILED))
    assert ("start" in offered) is (state in (STOPPED, ASLEEP))
    assert ("stop" in offered) is (state == READY)
    assert ("rebuild" in offered) is ("test" in offered) is (state in (READY, STOPPED, ASLEEP))


def test_what_was_never_built_to_its_end_offers_no_update(estate: Estate) -> None:
    estate.record(state=FAILED, address=None)
    assert deeds(estate.client.get(PLACE)) == {"resume", "delete"}


def test_while_something_is_at_work_it_can_be_cancelled_and_nothing_else(estate: Estate) -> None:
    estate.record()
    assert said(estate.client, sent(estate.client, f"{PLACE}/update")).startswith("It has begun")
    assert deeds(estate.client.get(PLACE)) == {"cancel"}
    refused = said(estate.client, sent(estate.client, f"{PLACE}/stop"))
    assert "workspace.update" in refused
    assert said(estate.client, sent(estate.client, f"{PLACE}/cancel")) == "The action is cancelled."
    assert "stop" in deeds(estate.client.get(PLACE))
    assert "Nothing was changed" in said(estate.client, sent(estate.client, f"{PLACE}/cancel"))


def test_a_button_cancels_the_action_that_it_names_and_no_other(estate: Estate) -> None:
    estate.record()
    uid = estate.client.post(f"{PLACE.removeprefix('/ui')}/update").json["task"]["uid"]
    assert f'name="task" value="{uid}"' in estate.client.get(PLACE).text
    refused = said(estate.client, sent(estate.client, f"{PLACE}/cancel", task="0" * 64))
    assert "that action has ended; workspace.update is at work now" in refused
    assert estate.task(uid).status == "queued"
    said(estate.client, sent(estate.client, f"{PLACE}/cancel", task=uid))
    assert estate.task(uid).status == "cancelled"


def test_who_has_a_link_neither_sees_nor_cancels_what_looks_after_all(estate: Estate) -> None:
    looking = estate.client.post("/tasks", json={"type": "workspace.reconcile"}).json["uid"]
    others = estate.client.post("/tasks", json={"type": "workspace.update", "args": {"slug": "w-al-x"}}).json["uid"]
    admin = signed_in(estate, "write")
    for uid in (looking, others):
        estate.record(state=CREATING, task=uid)
        person = admin.application.test_client()
        person.get(own_link(estate, admin))
        assert uid not in person.get(PLACE).text
        assert person.get(f"{PLACE}/events/{uid}").status_code == 404
        sent(person, f"{PLACE}/cancel", task=uid)
        assert estate.task(uid).status == "queued"


def test_an_action_that_another_way_has_begun_is_seen_by_slug_or_email(estate: Estate) -> None:
    for action, args in (("create", {"email": EMAIL.upper()}), ("update", {"slug": SLUG})):
        uid = estate.client.post("/tasks", json={"type": f"workspace.{action}", "args": args}).json["uid"]
        estate.record(task=uid)
        assert Seen(estate.client.get(PLACE)).hidden("task") == uid
        estate.end(uid)


def test_forms_carry_what_an_action_takes(estate: Estate) -> None:
    estate.record()
    for path, form, args in (
        ("rebuild", {"python": "python3.12"}, {"python": "python3.12"}),
        ("rebuild", {"python": ""}, {"python": None}),
        ("access", {"login": "jo"}, {"login": "jo"}),
        ("delete", {}, {"force": False, "branch": "ours"}),
        ("delete", {"force": "on", "branch": "keep"}, {"force": True, "branch": "keep"}),
    ):
        sent(estate.client, f"{PLACE}/{path}", **form)
        [task] = estate.client.get("/tasks?status=queued").json["tasks"]
        assert task["args"] == {"slug": SLUG, **args}
        estate.end(task["uid"])
    for path, form in (("rebuild", {"python": "x; y"}), ("access", {"login": "--help"}), ("access", {})):
        assert "Nothing was changed" in said(estate.client, sent(estate.client, f"{PLACE}/{path}", **form))
    assert estate.client.post(f"{PLACE}/explode", headers=OWN).status_code in (404, 405)


def test_the_page_lists_the_work_that_a_deletion_would_lose(estate: Estate) -> None:
    estate.record(unpushed=["2 commits on x", EVIL])
    page = estate.client.get(PLACE)
    harmless(page)
    assert "2 commits on x" in page.text and Seen(page).all("input", type="checkbox", name="force")


def test_what_was_deleted_says_so_and_can_be_made_anew(estate: Estate) -> None:
    estate.record(state=DELETED)
    page = estate.client.get(PLACE)
    assert "This workspace was deleted" in page.text
    assert Seen(page).hidden("email") == EMAIL


def test_its_log_is_that_of_its_last_action(estate: Estate, store: Store) -> None:
    estate.record()
    uid = estate.client.post(f"/workspaces/{SLUG}/update").json["task"]["uid"]
    unstored = Unstored(1)
    unstored.add("info", "Fetched 3 commits")
    unstored.add("error", EVIL)
    portion = unstored.take(lambda text: text)
    assert portion is not None
    store.logbook.write([(uid, portion)])
    estate.end(uid, EVIL)
    page = estate.client.get(PLACE)
    harmless(page)
    assert "Fetched 3 commits" in page.text and "HandsFailed" in page.text
    assert "data-tail" not in Seen(page).all("pre", id="lines")[0]


def test_a_log_runs_along_and_only_for_this_workspace(estate: Estate) -> None:
    estate.record()
    estate.record(OTHER)
    uid = estate.client.post(f"/workspaces/{SLUG}/update").json["task"]["uid"]
    stream = estate.client.get(f"{PLACE}/events/{uid}", buffered=False)
    assert (stream.status_code, stream.mimetype) == (200, "text/event-stream")
    stream.close()
    other = estate.client.post("/tasks", json={"type": "echo"}).json["uid"]
    for wrong in (other, "x"):
        assert estate.client.get(f"{PLACE}/events/{wrong}").status_code == 404
    al = estate.client.get("/workspaces").json["workspaces"][0]["slug"]
    assert estate.client.get(f"/ui/workspaces/{al}/events/{uid}").status_code == 404


@pytest.mark.parametrize(
    "gone", ["the token", "the session", "the key of the links", "the workspace, which is made anew"]
)
def test_a_log_runs_along_no_longer_than_its_reader_may_see_it(
    estate: Estate, store: Store, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    monkeypatch.setattr(task_events, "HEARTBEAT_SECONDS", 0.05)
    estate.record()
    uid = estate.client.post(f"/workspaces/{SLUG}/update").json["task"]["uid"]
    reader = signed_in(estate, "write")
    session = reader.get_cookie("sandbox_session")
    assert session
    if gone not in ("the token", "the session"):
        link, reader = own_link(estate, reader), reader.application.test_client()
        assert reader.get(link).status_code == 303
    with reader.get(f"{PLACE}/events/{uid}", buffered=False) as stream:
        chunks = stream.iter_encoded()
        assert any(b"event: task" in next(chunks) for _ in range(2))
        assert next(chunks) == next(chunks) == b":\n\n"
        if gone == "the token":
            token_file.remove(estate.folder / "tokens", "may-write")
        elif gone == "the session":
            store.sessions.end(session.value)
        elif gone == "the key of the links":
            (estate.premises.folder / "links.key").unlink()
        else:
            estate.record(generation=2)
        assert set(islice(chunks, 100)) <= {b":\n\n"}
        assert next(chunks, None) is None


def test_hostile_records_stay_words(estate: Estate) -> None:
    """What stands in a record is partly a stranger's: names of branches, addresses, errors, paths."""
    estate.record(
        email=EMAIL, branch=EVIL, address=f"javascript:1{EVIL}", error=EVIL, step=EVIL, unpushed=[EVIL], python=EVIL,
        pushed_sha=EVIL, steps={EVIL: EVIL, "clone": "intent"}, paths={EVIL: EVIL}, test={EVIL: EVIL}, logins=[EVIL],
        state=FAILED,
    )  # fmt: skip
    for place in ("/ui/workspaces", PLACE):
        page = estate.client.get(place)
        harmless(page)
        assert page.status_code == 200 and "\u202e" not in page.text
        for tag, attributes in Seen(page).tags:
            assert "style" not in attributes and not [name for name in attributes if name.startswith("on")], tag
    for slug in (quote(EVIL, safe=""), "..", "w-nobody-aaaaaaaa"):
        harmless(estate.client.get(f"/ui/workspaces/{slug}"))


# --- who sees what -----------------------------------------------------------------------------------


def test_who_may_only_read_sees_no_buttons(estate: Estate) -> None:
    estate.record()
    client = signed_in(estate, "read")
    page = client.get(PLACE)
    assert page.status_code == 200 and deeds(page) == set()
    assert not Seen(client.get("/ui/workspaces")).all("input", name="email")
    assert client.post(f"{PLACE}/stop", headers=OWN).status_code == 403
    assert client.post(f"{PLACE}/link", headers=OWN).status_code == 403


def own_link(estate: Estate, client: FlaskClient) -> str:
    found = re.search(r'<pre[^>]*id="own-link">(.*?)</pre>', sent(client, f"{PLACE}/link", 200).text)
    assert found
    return found[1]


def test_the_page_that_shows_a_link_leads_back_to_the_workspace_and_not_to_the_form(estate: Estate) -> None:
    estate.record()
    admin = signed_in(estate, "write")
    admin.post(f"{PLACE}/update", headers=OWN)
    page = sent(admin, f"{PLACE}/link", 200)
    assert Seen(page).hidden("back") == PLACE and 'http-equiv="refresh"' not in page.text


def test_a_person_with_a_link_sees_their_own_and_nothing_else(estate: Estate) -> None:
    estate.record(state=STOPPED)
    estate.record(OTHER)
    admin = signed_in(estate, "write")
    link = own_link(estate, admin)
    assert link.startswith(f"http://localhost{PLACE}/open?key=")
    person = admin.application.test_client()
    assert person.get(PLACE).headers["Location"].startswith("/ui/sign-in")
    opened = person.get(link)
    assert (opened.status_code, opened.headers["Location"]) == (303, PLACE)
    kept = cookie(opened, "sandbox_workspace")
    assert f"Path={PLACE}" in kept and "HttpOnly" in kept and "SameSite=Lax" in kept
    page = person.get(PLACE)
    assert page.status_code == 200 and EMAIL in page.text and OTHER not in page.text
    assert "/ui/tasks" not in page.text and "Sign out" not in page.text and "link" not in deeds(page)
    assert sent(person, f"{PLACE}/start").headers["Location"] == PLACE
    [task] = estate.client.get("/tasks").json["tasks"]
    assert (task["type"], task["created_by"]) == ("workspace.start", SLUG)
    assert person.get(f"{PLACE}/events/{task['uid']}", buffered=False).status_code == 200
    secret = link.partition("key=")[2]
    person.set_cookie("sandbox_workspace", secret, path="/")
    al = estate.client.get("/workspaces").json["workspaces"][0]["slug"]
    assert al != SLUG
    for path in ("/ui", "/ui/workspaces", f"/ui/workspaces/{al}", "/ui/tasks", f"/ui/tasks/{task['uid']}", "/ui/audit"):
        assert person.get(path).headers.get("Location", "").startswith("/ui/sign-in"), path
    for path in ("/ui/workspaces", f"/ui/workspaces/{al}/stop", f"{PLACE}/link", f"/ui/tasks/{task['uid']}/cancel"):
        assert person.post(path, headers=OWN).headers.get("Location", "").startswith("/ui/sign-in"), path
    for path in ("/workspaces", f"/workspaces/{SLUG}", f"/tasks/{task['uid']}/events"):
        assert person.get(path).status_code == 401


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {}])
def test_a_form_of_another_site_is_refused_also_with_ones_own_link(estate: Estate, headers: dict[str, str]) -> None:
    """A workspace's own pages are siblings of this one."""
    estate.record()
    admin = signed_in(estate, "write")
    person = admin.application.test_client()
    person.get(own_link(estate, admin))
    assert person.post(f"{PLACE}/stop", headers=headers).status_code == 403
    assert estate.client.get("/tasks").json["tasks"] == []


def test_a_link_that_is_wrong_says_no_more_than_that(estate: Estate) -> None:
    estate.record()
    client = signed_in(estate, "write").application.test_client()
    wrong = [
        f"{PLACE}/open",
        f"{PLACE}/open?key=x",
        f"{PLACE}/open?key=%00%C3%A9",
        "/ui/workspaces/w-no-aaaaaaaa/open?key=x",
    ]
    answers = [client.get(path) for path in wrong]
    assert {answer.status_code for answer in answers} == {403}
    assert "Set-Cookie" not in answers[0].headers
    assert len({re.sub(r"<code>.*?</code>|value=\"[^\"]*\"", "", answer.text) for answer in answers}) == 1


def test_a_link_to_what_cannot_be_read_says_nothing_of_paths(estate: Estate) -> None:
    estate.record()
    admin = signed_in(estate, "write")
    link = own_link(estate, admin)
    person, stranger = admin.application.test_client(), admin.application.test_client()
    person.get(link)
    record = estate.premises.folder / "records" / f"{SLUG}.json"
    text = record.read_text()
    record.write_text("{")
    assert stranger.get(link).status_code == stranger.get(f"{PLACE}/open?key=x").status_code == 403
    assert person.get(PLACE).headers["Location"].startswith("/ui/sign-in")
    record.write_text(text)
    key = estate.premises.folder / "links.key"
    key.unlink()
    key.mkdir()
    for answer in (stranger.get(link), person.get(PLACE), admin.post(f"{PLACE}/link", headers=OWN)):
        assert answer.status_code == 503 and "Is a directory" in answer.text and str(estate.folder) not in answer.text
    assert admin.get(PLACE).status_code == 200


def test_a_workspace_that_is_made_anew_has_another_link(estate: Estate) -> None:
    estate.record()
    admin = signed_in(estate, "write")
    link = own_link(estate, admin)
    estate.record(state=DELETED)
    person = admin.application.test_client()
    person.get(link)
    page = person.get(PLACE)
    assert "This workspace was deleted" in page.text and deeds(page) == set()
    estate.record(generation=2)
    assert admin.application.test_client().get(link).status_code == 403
    assert own_link(estate, admin) != link


def test_the_key_of_the_links_is_for_the_service_alone(estate: Estate) -> None:
    estate.record()
    link = estate.client.post(f"/workspaces/{SLUG}/link").json["link"]
    key = estate.folder / "workspaces" / "links.key"
    assert key.stat().st_mode & 0o777 == 0o600 and len(key.read_bytes()) == 32
    assert [path.name for path in Path(estate.folder / "workspaces").iterdir() if "links" in path.name] == ["links.key"]
    assert estate.client.post(f"/workspaces/{SLUG}/link").json["link"] == link
    key.unlink()
    assert estate.client.post(f"/workspaces/{SLUG}/link").json["link"] != link


def test_without_workspaces_the_page_says_so_and_has_no_place_for_them(open_page: FlaskClient) -> None:
    answer = open_page.get("/ui/workspaces")
    assert answer.status_code == 404 and "SANDBOX_WORKSPACE_GIT" in answer.text
    assert "/ui/workspaces" not in open_page.get("/ui").text
    for path in (PLACE, f"{PLACE}/open?key=x"):
        assert open_page.get(path).status_code == 404


def test_while_it_is_built_its_steps_are_shown(estate: Estate) -> None:
    estate.record(state=CREATING, steps={"mirror": "done", "clone": "intent"}, step="clone")
    text = estate.client.get(PLACE).text
    assert '<dt>mirror</dt><dd><span class="badge succeeded">done</span>' in text
    assert '<dt>clone</dt><dd><span class="badge running">under way</span>' in text
