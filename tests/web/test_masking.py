"""What is secret of a task's arguments, and who sees it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from service.web import token_file
from service.web.app import Web
from service.web.auth import Tokens
from service.web.masking import HIDDEN, without_secrets

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


def test_a_page_hides_what_sounds_like_a_secret() -> None:
    shown = without_secrets({"rows": [{"api_key": "k", "n": 12345678901234567890}], "token": {"a": 1}, "plain": "x"})
    assert shown == {"rows": [{"api_key": HIDDEN, "n": 12345678901234567890}], "token": HIDDEN, "plain": "x"}
