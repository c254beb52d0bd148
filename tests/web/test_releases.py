"""Releases: a push begins one, the first stage proves it, and who may brings that very one to the second."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from flask.testing import FlaskClient

from service.observe.audit import AuditLog
from service.store import Store
from service.tasks.document import TaskError
from service.tasks.registry import Registry
from service.web import token_file
from service.web.api.git_hooks import DELIVERIES
from service.web.api.release_desk import Stages
from service.web.app import Web
from service.web.auth import Tokens
from service.workspaces.releases import chain
from service.workspaces.releases.chain import Chain
from service.workspaces.releases.ledger import DONE, FAILED, Ledger
from tests.full_disk import no_room
from tests.servers import eventually
from tests.web.test_git_hooks import headers_of

SECRET = b"a secret of the forge"
SHA, OLD = "5" * 40, "4" * 40
FIRST, SECOND = "20260101T000000-aaaaaaa", "20260102T000000-bbbbbbb"
PUSH = {"ref": "refs/heads/main", "before": OLD, "after": SHA}


class Yard:
    def __init__(self, make: Callable[..., Web], store: Store, folder: Path) -> None:
        (folder / "hook").write_bytes(SECRET)
        self.store, self.folder = store, folder
        self.ledger = Ledger(folder / "releases")
        types = Registry.load(["service.builtin.demo"])
        for task_type in chain.types(cast(Chain, None)):  # as they are declared; nothing here runs one
            types.add(task_type)
        self.secrets = {name: token_file.add(folder / "tokens", name, scope) for name, scope in WHO.items()}
        stages = Stages(folder / "releases", "main", "staging", "production", ("jo", "reader"), folder / "hook")
        self._make = make
        self._given: dict[str, Any] = {
            "registry": types, "queues": ("default", "releases"), "stages": stages,
            "tokens": Tokens(folder / "tokens"), "audit": AuditLog(folder, "web"),
        }  # fmt: skip
        self.client = self.app().test_client()

    def app(self, **changed: Any) -> Web:
        return self._make(**(self._given | changed))

    def ask(self, method: str, path: str, who: str = "jo") -> Any:
        return self.client.open(path, method=method, headers={"Authorization": f"Bearer {self.secrets[who]}"})

    def push(self, body: Any = PUSH, **how: Any) -> Any:
        sent = json.dumps(body).encode()
        named = how.pop("named", {})
        headers = headers_of("github", sent, **({"secret": SECRET} | how)) | named
        return self.client.post("/hooks/git", data=sent, content_type="application/json", headers=headers)

    def tasks(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("GET", "/tasks").json["tasks"]
        return found

    def audit(self, did: str) -> list[dict[str, Any]]:
        lines = map(json.loads, (self.folder / "audit.log").read_text().splitlines())
        return [line for line in lines if line["did"] == did]

    def browser(self, who: str) -> FlaskClient:
        browser = self.app().test_client()
        assert browser.post("/ui/sign-in", data={"token": self.secrets[who]}).status_code == 303
        return browser


WHO = {"jo": "write", "al": "write", "reader": "read"}


@pytest.fixture
def yard(make_app: Callable[..., Web], store: Store, tmp_path: Path) -> Yard:
    made = Yard(make_app, store, tmp_path)
    made.ledger.prove(FIRST, OLD, "1" * 64)
    made.ledger.prove(SECOND, SHA, "2" * 64)
    return made


def test_a_push_to_the_main_branch_begins_a_release(yard: Yard) -> None:
    answer = yard.push()
    assert answer.status_code == 202 and answer.json["workspaces"] == []
    [task] = yard.tasks()
    assert answer.json["tasks"] == [task["uid"]]
    assert (task["type"], task["args"], task["queue"]) == ("release.promote", {"sha": SHA}, "releases")
    assert task["created_by"] == "hooks/git"
    assert yard.push().json["tasks"] == [task["uid"]]  # the same push, told again
    assert len(yard.tasks()) == 1
    back = yard.push(PUSH | {"before": "6" * 40})  # main goes back to this commit from another one
    assert back.status_code == 202 and back.json["tasks"] != [task["uid"]]


def test_a_push_that_is_told_again_after_its_task_has_ended_says_so(yard: Yard, finish: Callable[..., None]) -> None:
    [uid] = yard.push().json["tasks"]
    finish(uid, TaskError(type="Reject", message="the tests ended with 1"))
    again = yard.push()
    assert (again.status_code, again.json["tasks"]) == (200, [])
    assert f"{uid} has ended (failed)" in again.json["detail"] and "release.promote" in again.json["detail"]
    assert len(yard.tasks()) == 1


@pytest.mark.parametrize("name", DELIVERIES)
def test_a_push_that_comes_back_to_a_commit_begins_a_release_again(
    yard: Yard, finish: Callable[..., None], name: str
) -> None:
    [first] = yard.push(named={name: "one"}).json["tasks"]
    yard.push(PUSH | {"before": SHA, "after": OLD}, named={name: "two"})
    finish(first)
    assert yard.push(named={name: "one"}).json["tasks"] == []  # told again
    [again] = yard.push(named={name: "three"}).json["tasks"]
    assert again != first and len(yard.tasks()) == 3


@pytest.mark.parametrize(
    "body", [PUSH | {"ref": "refs/heads/other"}, PUSH | {"ref": "refs/tags/main"}, PUSH | {"after": "0" * 40}]
)
def test_other_pushes_begin_none(yard: Yard, body: Any) -> None:
    assert (yard.push(body).status_code, yard.tasks()) == (200, [])


def test_who_does_not_know_the_secret_begins_none(yard: Yard) -> None:
    assert (yard.push(secret=b"another").status_code, yard.tasks()) == (403, [])


def test_who_may_brings_the_very_release_to_the_second_stage(yard: Yard) -> None:
    answer = yard.ask("POST", f"/releases/{FIRST}/promote")
    assert answer.status_code == 202
    [task] = yard.tasks()
    assert (answer.json["release"], answer.json["task"]["uid"]) == (FIRST, task["uid"])
    assert (task["type"], task["args"], task["created_by"]) == ("release.deploy", {"release": FIRST}, "jo")
    wish = yard.ledger.read().wish
    assert wish is not None and (wish.release, wish.task, wish.by) == (FIRST, task["uid"], "jo")
    [line] = eventually(lambda: yard.audit("promoted"))
    assert {"by": "jo", "release": FIRST, "stage": "production", "uid": task["uid"]}.items() <= line.items()


@pytest.mark.parametrize(("who", "status"), [("al", 403), ("reader", 403)])
def test_nobody_else_may(yard: Yard, who: str, status: int) -> None:
    assert yard.ask("POST", f"/releases/{FIRST}/promote", who).status_code == status
    assert yard.tasks() == [] and yard.ledger.read().wish is None and yard.audit("promoted") == []


def test_without_a_token_nobody_gets_in(yard: Yard) -> None:
    assert yard.client.post(f"/releases/{FIRST}/promote").status_code == 401
    assert yard.client.get("/releases").status_code == 401


@pytest.mark.parametrize("id", ["20990101T000000-ccccccc", "x", "..%2F..", "--release"])
def test_only_what_the_first_stage_has_proved_is_brought_there(yard: Yard, id: str) -> None:
    assert yard.ask("POST", f"/releases/{id}/promote").status_code == 404
    assert yard.tasks() == []


def test_a_ledger_that_cannot_be_written_is_a_503_and_brings_nothing_anywhere(yard: Yard) -> None:
    with no_room():
        answer = yard.ask("POST", f"/releases/{FIRST}/promote")
    assert answer.status_code == 503 and "large" in answer.json["detail"]
    assert str(yard.folder) not in answer.json["detail"]
    assert yard.tasks() == [] and yard.ledger.read().wish is None and yard.audit("promoted") == []


def test_one_is_on_its_way_at_a_time(yard: Yard, finish: Callable[..., None]) -> None:
    uid = yard.ask("POST", f"/releases/{FIRST}/promote").json["task"]["uid"]
    refused = yard.ask("POST", f"/releases/{SECOND}/promote")
    assert (refused.status_code, refused.json["task"]) == (409, uid)
    finish(uid)
    assert yard.ask("POST", f"/releases/{SECOND}/promote").status_code == 202


def test_two_who_ask_at_the_same_moment_are_told_apart(yard: Yard) -> None:
    with yard.ledger.locked():
        assert yard.ask("POST", f"/releases/{FIRST}/promote").status_code == 409
    assert yard.tasks() == []


def test_a_task_that_was_made_by_hand_is_not_what_was_asked_for(yard: Yard) -> None:
    body = {"type": "release.deploy", "args": {"release": FIRST}}
    made = yard.client.post("/tasks", json=body, headers={"Authorization": f"Bearer {yard.secrets['al']}"})
    assert made.status_code == 201
    assert yard.ledger.follow(made.json["uid"], "running") is None  # so its handler does nothing


def test_what_was_cancelled_before_it_began_nobody_sends_on_by_a_retry(yard: Yard) -> None:
    uid = yard.ask("POST", f"/releases/{FIRST}/promote").json["task"]["uid"]
    assert yard.ask("DELETE", f"/tasks/{uid}").status_code == 200
    for who in ("al", "jo"):
        refused = yard.ask("POST", f"/tasks/{uid}/retry", who)
        assert (refused.status_code, "asks anew" in refused.json["detail"]) == (409, True)
    yard.browser("al").post(f"/ui/tasks/{uid}/retry", headers={"Sec-Fetch-Site": "same-origin"})
    assert yard.ask("GET", f"/tasks/{uid}").json["status"] == "cancelled"
    assert yard.ask("POST", f"/releases/{FIRST}/promote").status_code == 202


def test_the_list_tells_what_was_proved_and_what_was_asked_for(yard: Yard) -> None:
    found = yard.ask("GET", "/releases", "reader").json
    assert found["stages"] == ["staging", "production"] and found["current"] is None and found["asked"] is None
    assert [(each["release"], each["sha"]) for each in found["releases"]] == [(SECOND, SHA), (FIRST, OLD)]
    uid = yard.ask("POST", f"/releases/{FIRST}/promote").json["task"]["uid"]
    asked = yard.ask("GET", "/releases").json["asked"]
    assert (asked["release"], asked["state"], asked["by"]) == (FIRST, "queued", "jo")
    yard.ledger.follow(uid, DONE)
    found = yard.ask("GET", "/releases").json
    assert (found["current"], found["asked"]["state"]) == (FIRST, DONE)


def test_the_page_has_a_button_for_who_may(yard: Yard, finish: Callable[..., None]) -> None:
    jo, al, reader = (yard.browser(name) for name in WHO)
    for browser, buttons in ((jo, 2), (al, 0), (reader, 0)):
        page = browser.get("/ui/releases").text
        assert SECOND in page and page.count("Bring it to production now") == buttons
    for browser in (al, reader):
        assert browser.post(f"/ui/releases/{FIRST}/promote").status_code == 403
    assert yard.tasks() == []
    assert jo.post(f"/ui/releases/{FIRST}/promote", headers={"Origin": "http://evil.example"}).status_code == 403
    assert jo.post(f"/ui/releases/{FIRST}/promote", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 303
    [task] = yard.tasks()
    page = jo.get("/ui/releases").text
    assert "goes to production" in page and f"/ui/tasks/{task['uid']}" in page and "Bring it" not in page
    yard.ledger.follow(task["uid"], FAILED)
    finish(task["uid"])
    assert jo.get("/ui/releases").text.count("Bring it to production now") == 2
    jo.post("/ui/releases/20990101T000000-ccccccc/promote", headers={"Sec-Fetch-Site": "same-origin"})
    assert "Nothing was changed" in jo.get("/ui/releases").text


def test_where_releases_are_off_that_is_said(yard: Yard) -> None:
    client = yard.app(stages=None, tokens=None).test_client()
    answer = client.get("/releases")
    assert answer.status_code == 404 and "SANDBOX_PROMOTE_CLONE" in answer.json["detail"]
    assert client.get("/ui/releases").status_code == 404
    assert "/ui/releases" not in client.get("/ui").text


def test_a_ledger_that_cannot_be_read_is_told(yard: Yard) -> None:
    (yard.folder / "releases" / "ledger.json").write_text("[")
    for method, path in (("GET", "/releases"), ("POST", f"/releases/{FIRST}/promote")):
        answer = yard.ask(method, path)
        assert (answer.status_code, "cannot be read" in answer.json["detail"]) == (409, True)
