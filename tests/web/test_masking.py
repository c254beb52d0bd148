"""What is secret of a task's arguments, and who sees it."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from flask.testing import FlaskClient

from service.store import Store
from service.tasks.registry import Registry
from service.web import token_file
from service.web.app import Web
from service.web.auth import Tokens
from service.web.masking import HIDDEN

ARGS = {"name": "ann", "password": "hunter2", "pin_code": 7}
MASKED = {"name": "ann", "password": HIDDEN, "pin_code": HIDDEN}


@pytest.fixture
def tokens(tmp_path: Path) -> dict[str, dict[str, str]]:
    path = tmp_path / "tokens"
    return {scope: {"Authorization": f"Bearer {token_file.add(path, scope, scope)}"} for scope in ("read", "write")}


@pytest.fixture
def guarded(make_app: Callable[..., Web], tokens: dict[str, dict[str, str]], tmp_path: Path) -> FlaskClient:
    return make_app(tokens=Tokens(tmp_path / "tokens")).test_client()


def test_only_who_may_write_sees_secret_arguments(guarded: FlaskClient, tokens: dict[str, dict[str, str]]) -> None:
    task = {"type": "account.open", "args": ARGS}
    made = guarded.post("/tasks", json=task, headers=tokens["write"]).json
    assert made["args"] == task["args"]
    for path in (f"/tasks/{made['uid']}", f"/tasks?task_id={made['uid']}"):
        assert guarded.get(path, headers=tokens["write"]).json["args"] == task["args"]
        assert guarded.get(path, headers=tokens["read"]).json == made | {"args": MASKED}
        waited = guarded.get(path, headers={**tokens["read"], "Prefer": "wait=0"}).json
        assert waited == made | {"args": MASKED}
    for scope in ("read", "write"):
        assert guarded.get("/tasks", headers=tokens[scope]).json["tasks"] == [made | {"args": MASKED}]


def test_without_tokens_everybody_may_write(client: FlaskClient) -> None:
    made = client.post("/tasks", json={"type": "account.open", "args": {"name": "ann", "password": "x"}}).json
    assert client.get(f"/tasks/{made['uid']}").json["args"]["password"] == "x"
    [listed] = client.get("/tasks").json["tasks"]
    assert listed["args"] == {"name": "ann", "password": HIDDEN}


def test_a_type_says_what_is_secret(client: FlaskClient) -> None:
    types = {each["type"]: each["secret"] for each in client.get("/types").json["types"]}
    assert (types["account.open"], types["echo"]) == (["password", "pin_code"], [])


def test_a_type_that_has_left_the_release_keeps_its_secrets(
    make_app: Callable[..., Web], guarded: FlaskClient, tokens: dict[str, dict[str, str]], tmp_path: Path
) -> None:
    uid = guarded.post("/tasks", json={"type": "account.open", "args": ARGS}, headers=tokens["write"]).json["uid"]
    later = make_app(tokens=Tokens(tmp_path / "tokens"), registry=Registry([])).test_client()
    assert later.get(f"/tasks/{uid}", headers=tokens["write"]).json["args"] == ARGS
    for path in (f"/tasks/{uid}", "/tasks", "/tasks?type=account.open"):
        assert b"hunter2" not in later.get(path, headers=tokens["read"]).data, path
    assert later.get("/tasks?q=args.name=ann&type=account.open", headers=tokens["read"]).status_code == 422
    assert later.get("/tasks?q=args.password=hunter2", headers=tokens["read"]).json["tasks"] == []


GUESS = "args.password=hunter2"


def test_nobody_finds_a_secret_by_guessing(guarded: FlaskClient, tokens: dict[str, dict[str, str]]) -> None:
    task = {"type": "account.open", "args": ARGS}
    assert guarded.post("/tasks", json=task, headers=tokens["write"]).status_code == 201
    for scope in ("read", "write"):
        for query in (
            f"q={GUESS}",
            "q=args.password=wrong",
            f"q={GUESS}&type=echo,account.open",
            "q=args.pin_code.x=7",
        ):
            refused = guarded.get(f"/tasks?{query}", headers=tokens[scope])
            assert (refused.status_code, refused.json["field"]) == (422, "q"), query
            assert "is a secret of the type account.open" in refused.json["detail"]
        found = guarded.get("/tasks?q=args.name=ann", headers=tokens[scope]).json["tasks"]
        assert [each["args"] for each in found] == [MASKED]


@pytest.mark.parametrize("act", ["retry", "cancel"])
@pytest.mark.parametrize("dry_run", [True, False])
def test_nor_does_an_act_on_many_tell_whether_a_guess_is_right(client: FlaskClient, act: str, dry_run: bool) -> None:
    client.post("/tasks", json={"type": "account.open", "args": ARGS})
    refused = client.post(f"/tasks/{act}", json={"q": GUESS, "dry_run": dry_run})
    assert (refused.status_code, refused.json["field"]) == (422, "q")
    assert [task["type"] for task in client.get("/tasks").json["tasks"]] == ["account.open"]


def test_nor_does_the_page(client: FlaskClient) -> None:
    made = client.post("/tasks", json={"type": "account.open", "args": ARGS}).json
    for address in (f"/ui/tasks?q={GUESS}", f"/ui/tasks/all?do=cancel&q={GUESS}"):
        answer = client.get(address)
        assert answer.status_code == 422
        assert "is a secret of the type account.open" in answer.text
        assert made["uid"][:8] not in answer.text


def test_of_types_without_that_secret_the_same_name_is_searched(client: FlaskClient) -> None:
    client.post("/tasks", json={"type": "account.open", "args": ARGS})
    found = client.get(f"/tasks?type=echo,urgent&q={GUESS}")
    assert (found.status_code, found.json["tasks"]) == (200, [])


@pytest.mark.parametrize("scope", ["read", "write"])
def test_events_hide_secrets_as_the_document_does(
    guarded: FlaskClient, tokens: dict[str, dict[str, str]], scope: str
) -> None:
    uid = guarded.post("/tasks", json={"type": "account.open", "args": ARGS}, headers=tokens["write"]).json["uid"]
    assert guarded.delete(f"/tasks/{uid}", headers=tokens["write"]).json["args"] == ARGS  # only who may write
    events = guarded.get(f"/tasks/{uid}/events", headers=tokens[scope]).text
    assert "event: task" in events and "event: end" in events
    assert ("hunter2" in events) == (scope == "write")
    for act in (guarded.delete, guarded.post):
        refused = act(f"/tasks/{uid}{'' if act == guarded.delete else '/retry'}", headers=tokens["read"])
        assert refused.status_code == 403 and "hunter2" not in refused.text


def test_nor_does_the_cursor_tell_where_a_type_has_left_the_release(
    make_app: Callable[..., Web], client: FlaskClient
) -> None:
    client.post("/tasks", json={"type": "echo"})  # older: there would be a next page
    client.post("/tasks", json={"type": "account.open", "args": ARGS})
    known = Registry.load(["service.builtin.demo"])
    later = make_app(registry=known).test_client()
    answers = [later.get(f"/tasks?limit=1&q=args.password={guess}").json for guess in ("hunter2", "wrong")]
    assert answers == [{"tasks": [], "next": None}] * 2
    asked = [later.get(f"/ui/tasks/all?do=cancel&q=args.password={guess}").text for guess in ("hunter2", "wrong")]
    assert all("Cancel 0 tasks?" in text for text in asked)
    dry = later.post("/tasks/cancel", json={"q": GUESS, "dry_run": True})
    assert dry.json == {"matched": 0, "more": False}


def test_an_act_looks_for_arguments_where_the_list_does(
    make_app: Callable[..., Web], client: FlaskClient, store: Store
) -> None:
    client.post("/tasks", json={"type": "account.open", "args": ARGS})
    later = make_app(registry=Registry.load(["service.builtin.demo"])).test_client()
    act = later.post("/tasks/cancel", json={"q": GUESS}).json
    assert "account.open" not in act["args"]["filter"]["type"] and "echo" in act["args"]["filter"]["type"]


def test_a_result_hides_what_its_type_calls_secret(
    guarded: FlaskClient, tokens: dict[str, dict[str, str]], finish: Callable[..., None]
) -> None:
    task = {"type": "account.open", "args": ARGS}
    uid = guarded.post("/tasks", json=task, headers=tokens["write"]).json["uid"]
    finish(uid, result=msgspec.Raw(msgspec.json.encode(ARGS)))
    assert guarded.get(f"/tasks/{uid}", headers=tokens["write"]).json["result"] == ARGS
    assert guarded.get(f"/tasks/{uid}", headers=tokens["read"]).json["result"] == MASKED
    for scope in ("read", "write"):
        [listed] = guarded.get("/tasks", headers=tokens[scope]).json["tasks"]
        assert listed["result"] == MASKED
    page = guarded.get(f"/ui/tasks/{uid}", headers=tokens["write"])
    assert page.status_code == 303 or "hunter2" not in page.text


def test_readers_see_on_what_an_act_acts(guarded: FlaskClient, tokens: dict[str, dict[str, str]]) -> None:
    act = guarded.post("/tasks/cancel", json={"type": "echo"}, headers=tokens["write"]).json
    seen = guarded.get(f"/tasks/{act['uid']}", headers=tokens["read"]).json
    assert seen["args"] == act["args"] == {"filter": {"type": ["echo"]}}
