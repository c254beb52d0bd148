"""The calls of /workspaces: records, and the tasks that change them."""

import threading
from typing import Any

import pytest
from flask.testing import FlaskClient

from service.tasks import moments
from service.web.api.workspace_desk import BLOCK
from service.workspaces import names
from service.workspaces.record import ASLEEP, DELETE_FAILED, DELETED, DELETING, FAILED, READY, STATES, STOPPED
from tests.full_disk import no_room
from tests.web.estate import EMAIL, SLUG, Estate

ACTIONS = ("start", "stop", "restart", "update", "rebuild", "test")


def asked(client: FlaskClient, path: str, status: int = 202, **body: Any) -> Any:
    answer = client.post(path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json


def test_an_email_becomes_a_record_and_a_task(estate: Estate) -> None:
    answer = estate.client.post("/workspaces", json={"email": "Jo@Example.org"})
    assert (answer.status_code, answer.headers["Location"]) == (202, f"/workspaces/{SLUG}")
    workspace, task = answer.json["workspace"], answer.json["task"]
    assert (workspace["slug"], workspace["email"], workspace["state"]) == (SLUG, EMAIL, "requested")
    assert (task["type"], task["queue"], task["args"]) == (
        "workspace.create",
        "workspaces",
        {"email": EMAIL, "take_over": False},
    )
    assert workspace["task"] == task["uid"]
    assert estate.client.get(f"/workspaces/{SLUG}").json == workspace
    assert estate.client.get("/workspaces").json == {"workspaces": [workspace]}


def test_the_same_email_again_makes_nothing_new(estate: Estate) -> None:
    first = asked(estate.client, "/workspaces", email=EMAIL)
    again = asked(estate.client, "/workspaces", 200, email=EMAIL.upper())
    assert again == first
    estate.begin(first["task"]["uid"])
    estate.end(first["task"]["uid"])
    estate.record()
    assert asked(estate.client, "/workspaces", 200, email=EMAIL)["workspace"]["state"] == "ready"
    assert len(estate.client.get("/tasks").json["tasks"]) == 1


def test_two_emails_that_look_alike_get_two_workspaces(estate: Estate) -> None:
    slugs = [asked(estate.client, "/workspaces", email=each)["workspace"]["slug"] for each in ("a.b@x.de", "a-b@x.de")]
    assert len({*slugs}) == 2


def test_a_creation_whose_task_was_lost_begins_with_the_next_request(estate: Estate) -> None:
    """The web died between the record and the task."""
    estate.shelf.request(EMAIL, most=9, most_building=9)
    assert estate.client.get(f"/workspaces/{SLUG}").json["task"] is None
    assert asked(estate.client, "/workspaces", email=EMAIL)["task"]["status"] == "queued"


def test_a_failed_one_goes_on_with_somebody_elses_branch_where_that_is_asked_for(estate: Estate) -> None:
    estate.record(state=FAILED, step="branch", error=f"the branch {EMAIL} is at the origin already")
    assert asked(estate.client, "/workspaces", 200, email=EMAIL)["task"] is None
    body = {"email": EMAIL, "take_over": True}
    begun = asked(estate.client, "/workspaces", **body)
    assert (begun["task"]["type"], begun["task"]["args"]) == ("workspace.create", body)
    assert asked(estate.client, "/workspaces", 200, **body)["task"]["uid"] == begun["task"]["uid"]
    estate.end(begun["task"]["uid"])
    estate.record(state=READY)
    assert asked(estate.client, "/workspaces", 200, **body)["workspace"]["state"] == "ready"


def test_the_wish_for_somebody_elses_branch_is_no_part_of_a_creation_that_runs_already(estate: Estate) -> None:
    running = asked(estate.client, "/workspaces", email=EMAIL)["task"]["uid"]
    refused = estate.client.post("/workspaces", json={"email": EMAIL, "take_over": True})
    assert (refused.status_code, refused.json["task"]) == (409, running)


@pytest.mark.parametrize(
    "email", ["", "jo", "a@b\r\nSet-Cookie: x", "<script>@x.de", "$(id)@x.de", "a\u202eb@x.de", 7, None]
)
def test_what_is_no_email_is_refused(estate: Estate, email: Any) -> None:
    answer = estate.client.post("/workspaces", json={"email": email})
    assert (answer.status_code, answer.json["field"]) == (422, "email")
    assert estate.client.get("/workspaces").json == {"workspaces": []}


def test_beyond_the_limits_it_is_refused_for_now(estate: Estate) -> None:
    for name in "ab":
        asked(estate.client, "/workspaces", email=f"{name}@x.de")
    refused = estate.client.post("/workspaces", json={"email": "c@x.de"})
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "30")
    for name in "abcd":
        estate.record(f"{name}@x.de")
    refused = estate.client.post("/workspaces", json={"email": "e@x.de"})
    assert (refused.status_code, refused.headers["Retry-After"]) == (429, "60")
    assert "delete one first" in refused.json["detail"]
    asked(estate.client, "/workspaces", 200, email="a@x.de")


# --- actions -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ACTIONS)
def test_each_action_is_a_task(estate: Estate, action: str) -> None:
    estate.record()
    answer = asked(estate.client, f"/workspaces/{SLUG}/{action}")
    assert answer["task"]["type"] == f"workspace.{action}"
    assert answer["task"]["args"]["slug"] == SLUG
    assert answer["workspace"]["task"] == answer["task"]["uid"]


def test_actions_take_what_they_need(estate: Estate) -> None:
    estate.record()
    rebuilt = asked(estate.client, f"/workspaces/{SLUG}/rebuild", python="python3.12")["task"]
    assert rebuilt["args"] == {"slug": SLUG, "python": "python3.12"}
    estate.end(rebuilt["uid"])
    granted = asked(estate.client, f"/workspaces/{SLUG}/access", login="jo")["task"]
    assert granted["args"] == {"slug": SLUG, "login": "jo"}
    for path, body in (
        ("rebuild", {"python": "-3; rm"}),
        ("rebuild", {"python": "python3\n"}),
        ("access", {"login": "-x"}),
        ("access", {"login": "jo\n"}),
        ("access", {}),
        ("rebuild", {"x": 1}),
    ):
        assert estate.client.post(f"/workspaces/{SLUG}/{path}", json=body).status_code == 422


def test_an_unknown_python_is_refused_at_once_and_the_known_ones_are_named(estate: Estate) -> None:
    estate.record()
    refused = estate.client.post(f"/workspaces/{SLUG}/rebuild", json={"python": "3.99"})
    assert (refused.status_code, refused.json["field"]) == (422, "python")
    assert refused.json["detail"] == "python: there is no '3.99' for workspaces here; there are: python3, python3.12"
    assert estate.client.get("/tasks").json["tasks"] == []


def test_one_action_at_a_time(estate: Estate) -> None:
    """Whether it waits, runs, or is not on the record yet."""
    estate.record()
    first = asked(estate.client, f"/workspaces/{SLUG}/update")["task"]["uid"]
    for began in (False, True):
        if began:
            estate.begin(first)
        for path in ("update", "stop", "resume"):
            refused = estate.client.post(f"/workspaces/{SLUG}/{path}")
            assert (refused.status_code, refused.json["task"]) == (409, first)
            assert "workspace.update" in refused.json["detail"]
        assert estate.client.delete(f"/workspaces/{SLUG}").status_code == 409
    estate.end(first)
    assert asked(estate.client, f"/workspaces/{SLUG}/stop")["task"]["uid"] != first


def test_an_action_that_was_cancelled_before_it_began_holds_up_nothing(estate: Estate) -> None:
    estate.record()
    seen = []
    for _ in range(3):
        seen.append(asked(estate.client, f"/workspaces/{SLUG}/update")["task"]["uid"])
        assert estate.client.delete(f"/tasks/{seen[-1]}").status_code == 200
    assert len({*seen}) == 3
    assert estate.client.get(f"/workspaces/{SLUG}").json["task"] == seen[-1]


def test_of_many_who_ask_at_once_one_is_heard(estate: Estate) -> None:
    estate.record()
    statuses: list[int] = []
    ready = threading.Barrier(6)

    def ask(action: str) -> None:
        client = estate.client.application.test_client()
        ready.wait()
        statuses.append(client.post(f"/workspaces/{SLUG}/{action}").status_code)

    threads = [threading.Thread(target=ask, args=(action,)) for action in ACTIONS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [202] + 5 * [409]
    assert len(estate.client.get("/tasks").json["tasks"]) == 1


def test_a_task_that_another_way_has_begun_is_an_action_too(estate: Estate) -> None:
    """As by POST /tasks, or a schedule."""
    estate.record()
    uid = asked(estate.client, "/tasks", 201, type="workspace.update", args={"slug": SLUG})["uid"]
    estate.begin(uid)
    assert estate.client.post(f"/workspaces/{SLUG}/stop").json["task"] == uid


def test_a_record_that_names_an_expired_task_goes_on(estate: Estate) -> None:
    estate.record(task="0" * 64)
    assert estate.client.get(f"/workspaces/{SLUG}").json["task"] is None
    uid = asked(estate.client, f"/workspaces/{SLUG}/update")["task"]["uid"]
    assert estate.client.post(f"/workspaces/{SLUG}/stop").json["task"] == uid


def test_after_many_actions_and_after_they_have_expired_the_next_one_is_found(estate: Estate) -> None:
    estate.record()
    uids = []
    for _ in range(BLOCK + 2):
        uids.append(asked(estate.client, f"/workspaces/{SLUG}/update")["task"]["uid"])
        estate.end(uids[-1])
    assert len({*uids}) == BLOCK + 2
    assert estate.client.get(f"/workspaces/{SLUG}").json["task"] == uids[-1]
    for uid in uids[:3]:
        assert estate.client.delete(f"/tasks/{uid}?purge").status_code == 200
    late = asked(estate.client, f"/workspaces/{SLUG}/update")["task"]["uid"]
    assert late not in uids
    assert estate.client.post(f"/workspaces/{SLUG}/stop").json["task"] == late
    estate.end(late)
    for uid in (*uids[3:], late):
        assert estate.client.delete(f"/tasks/{uid}?purge").status_code == 200
    assert asked(estate.client, f"/workspaces/{SLUG}/stop")["task"]["uid"] == uids[0]


def test_a_branch_is_taken_over_only_if_that_is_said(estate: Estate) -> None:
    assert asked(estate.client, "/workspaces", email=EMAIL, take_over=True)["task"]["args"]["take_over"] is True
    estate.record("al@x.de", state=FAILED)
    place = f"/workspaces/{names.slug('al@x.de')}/resume"
    first = asked(estate.client, place)["task"]
    estate.end(first["uid"])
    second = asked(estate.client, place, take_over=True)["task"]
    assert (first["args"]["take_over"], second["args"]["take_over"]) == (False, True)


@pytest.mark.parametrize("state", [*STATES])
def test_resume_goes_on_where_there_is_something_left_to_do(estate: Estate, state: str) -> None:
    estate.record(state=state)
    answer = estate.client.post(f"/workspaces/{SLUG}/resume")
    wanted = 404 if state == DELETED else 409 if state in (READY, STOPPED, ASLEEP) else 202
    assert answer.status_code == wanted
    if wanted == 202:
        ends = state in (DELETING, DELETE_FAILED)
        assert answer.json["task"]["type"] == ("workspace.delete" if ends else "workspace.create")


def test_what_is_half_deleted_can_only_go(estate: Estate) -> None:
    estate.record(state=DELETE_FAILED)
    assert estate.client.post(f"/workspaces/{SLUG}/start").status_code == 409
    assert estate.client.delete(f"/workspaces/{SLUG}").status_code == 202


def test_a_deletion_may_be_forced(estate: Estate) -> None:
    estate.record(unpushed=["2 commits"])
    assert estate.client.get(f"/workspaces/{SLUG}").json["unpushed"] == ["2 commits"]
    careful = estate.client.delete(f"/workspaces/{SLUG}").json["task"]
    estate.end(careful["uid"], "2 commits")
    forced = estate.client.delete(f"/workspaces/{SLUG}?force").json["task"]
    assert (careful["args"]["force"], forced["args"]["force"]) == (False, True)
    estate.end(forced["uid"])
    kept = estate.client.delete(f"/workspaces/{SLUG}?branch=keep").json["task"]
    assert (kept["args"]["branch"], forced["args"]["branch"]) == ("keep", "ours")
    estate.end(kept["uid"])
    assert estate.client.delete(f"/workspaces/{SLUG}?branch=theirs").status_code == 422
    assert estate.client.delete(f"/workspaces/{SLUG}?force=1").status_code == 422
    assert estate.client.delete(f"/workspaces/{SLUG}?fast").status_code == 422


def test_after_its_deletion_an_email_begins_anew(estate: Estate) -> None:
    estate.record(state=DELETED)
    assert estate.client.get("/workspaces").json == {"workspaces": []}
    for call in (estate.client.get, estate.client.delete):
        assert call(f"/workspaces/{SLUG}").status_code == 404
    assert asked(estate.client, "/workspaces", email=EMAIL)["workspace"]["generation"] == 2


def test_what_was_done_before_a_deletion_is_not_of_the_new_one(estate: Estate) -> None:
    estate.record()
    estate.end(estate.client.delete(f"/workspaces/{SLUG}").json["task"]["uid"])
    estate.record(state=DELETED)
    estate.shelf.request(EMAIL, most=9, most_building=9)
    assert estate.client.get(f"/workspaces/{SLUG}").json["task"] is None


def test_extend_says_that_it_is_in_use(estate: Estate) -> None:
    estate.record(last_used="2020-01-01T00:00:00.000000Z")
    found = asked(estate.client, f"/workspaces/{SLUG}/extend", 200)["workspace"]
    assert found["last_used"] > "2026"
    used, expires = (moments.microseconds(found[name]) for name in ("last_used", "expires_at"))
    assert abs(expires - used - 30 * 86400_000_000) < 100
    with estate.shelf.lock(SLUG):
        assert estate.client.post(f"/workspaces/{SLUG}/extend").status_code == 409


def test_the_log_is_that_of_the_present_action(estate: Estate) -> None:
    estate.record()
    assert estate.client.get(f"/workspaces/{SLUG}/log").status_code == 404
    asked(estate.client, f"/workspaces/{SLUG}/update")
    answer = estate.client.get(f"/workspaces/{SLUG}/log?after=0&limit=10")
    assert answer.json == {"lines": [], "dropped": 0, "next": "0"}


# --- who may, and where there is nothing ---------------------------------------------------------------


def test_who_may_only_read_changes_nothing(estate: Estate) -> None:
    app, secrets = estate.guarded()
    estate.record()
    client = app.test_client()
    assert client.get("/workspaces").status_code == 401
    reader = {"Authorization": f"Bearer {secrets['read']}"}
    assert client.get(f"/workspaces/{SLUG}", headers=reader).status_code == 200
    for path in ("", f"/{SLUG}/start"):
        assert client.post(f"/workspaces{path}", json={"email": EMAIL}, headers=reader).status_code == 403
    assert client.delete(f"/workspaces/{SLUG}", headers=reader).status_code == 403
    writer = {"Authorization": f"Bearer {secrets['write']}"}
    answer = client.post(f"/workspaces/{SLUG}/start", headers=writer)
    assert (answer.status_code, answer.json["task"]["created_by"]) == (202, "may-write")


@pytest.mark.parametrize("slug", ["w-nobody-aaaaaaaa", "..", "%2e%2e%2fetc", "w-<script>", "x" * 300])
def test_what_is_not_there_is_not_found(estate: Estate, slug: str) -> None:
    assert estate.client.get(f"/workspaces/{slug}").status_code == 404
    assert estate.client.post(f"/workspaces/{slug}/start").status_code == 404
    assert estate.client.delete(f"/workspaces/{slug}").status_code == 404


def test_a_record_that_cannot_be_read_is_said_to_be_so(estate: Estate) -> None:
    estate.record()
    (estate.premises.folder / "records" / f"{SLUG}.json").write_text("{")
    assert estate.client.get(f"/workspaces/{SLUG}").status_code == 409
    assert estate.client.post("/workspaces", json={"email": EMAIL}).status_code == 409
    assert estate.client.get("/workspaces").json == {"workspaces": []}


def test_files_that_cannot_be_used_are_a_503_that_says_why(estate: Estate) -> None:
    with no_room():
        full = estate.client.post("/workspaces", json={"email": EMAIL})
    asked(estate.client, "/workspaces", email=EMAIL)
    with no_room():
        link = estate.client.post(f"/workspaces/{SLUG}/link")
        extended = estate.client.post(f"/workspaces/{SLUG}/extend")
    assert [path.name for path in estate.premises.folder.iterdir()] == ["records"], "nothing of the key is left"
    records = estate.premises.folder / "records"
    records.rename(estate.folder / "elsewhere")
    records.write_text("no folder")
    answers = [
        estate.client.post("/workspaces", json={"email": EMAIL}), estate.client.get(f"/workspaces/{SLUG}"),
        estate.client.post(f"/workspaces/{SLUG}/update"),
    ]  # fmt: skip
    for answer, reason in (
        (full, "large"),
        (link, "large"),
        (extended, "large"),
        *((each, "Not a") for each in answers),
    ):
        assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
        assert reason in answer.json["detail"] and str(estate.folder) not in answer.json["detail"]


def test_without_workspaces_each_call_says_so(client: FlaskClient) -> None:
    answers = [
        client.post("/workspaces", json={"email": EMAIL}), client.get("/workspaces"),
        client.get(f"/workspaces/{SLUG}"),
        client.delete(f"/workspaces/{SLUG}"), client.post(f"/workspaces/{SLUG}/start"),
        client.post("/hooks/git", json={}),
    ]  # fmt: skip
    for answer in answers:
        assert answer.status_code == 404
        assert "SANDBOX_WORKSPACE_GIT" in answer.json["detail"]
