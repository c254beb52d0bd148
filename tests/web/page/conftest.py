"""The page without a browser: what a person's plain requests get."""

import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from service.observe.audit import AuditLog
from service.store import SCRIPTS, Session, Store
from service.store.connection import connect
from service.web import token_file
from service.web.app import Web
from service.web.auth import Tokens

OWN = {"Sec-Fetch-Site": "same-origin"}


class Seen(HTMLParser):
    """A page's tags, with their attributes."""

    def __init__(self, answer: TestResponse) -> None:
        super().__init__()
        self.text = answer.text
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(answer.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str, **wanted: str) -> list[dict[str, Any]]:
        return [found for name, found in self.tags if name == tag and wanted.items() <= found.items()]

    def hidden(self, name: str) -> str:
        return str(self.all("input", type="hidden", name=name)[0]["value"])


@pytest.fixture
def open_page(make_app: Callable[..., Web], tmp_path: Path) -> FlaskClient:
    """Without tokens."""
    return make_app(audit=AuditLog(tmp_path, "web")).test_client()


class Guarded:
    """A page that asks for tokens, and people who come with one."""

    def __init__(self, make: Callable[..., Web], folder: Path) -> None:
        self.file = folder / "tokens"
        self.app = make(tokens=Tokens(self.file), audit=AuditLog(folder, "web"))
        self.secrets = {scope: token_file.add(self.file, f"{scope}er", scope) for scope in token_file.SCOPES}

    def code(self, store: Store, scope: str) -> str:
        return store.sessions.make_code(Session(f"{scope}er", token_file.hash_of(self.secrets[scope])))

    def stranger(self) -> FlaskClient:
        return self.app.test_client()

    def somebody(self, scope: str) -> FlaskClient:
        client = self.app.test_client()
        answer = client.post("/ui/sign-in", data={"token": self.secrets[scope]}, headers=OWN)
        assert answer.status_code == 303
        return client


@pytest.fixture
def guarded(make_app: Callable[..., Web], tmp_path: Path) -> Guarded:
    return Guarded(make_app, tmp_path)


def cookie(answer: TestResponse, name: str) -> str:
    """The whole header that sets it."""
    return next((line for line in answer.headers.getlist("Set-Cookie") if line.startswith(f"{name}=")), "")


def said(client: FlaskClient, answer: TestResponse) -> str:
    """What the page that comes after a form says of it."""
    assert answer.status_code == 303, answer.text
    found = re.search(r'<p class="said[^>]*>(.*?)</p>', client.get(answer.headers["Location"]).text)
    return found[1] if found else ""


def create(client: FlaskClient, **task: Any) -> str:
    answer = client.post("/tasks", json={"type": "echo"} | task)
    assert answer.status_code == 201, answer.text
    return str(answer.json["uid"])


@pytest.fixture
def cut_off(tmp_path: Path) -> Iterator[Store]:
    """A store without Redis."""
    store = Store(connect(f"unix://{tmp_path}/nothing", SCRIPTS))
    yield store
    store.close()
