"""Commit statuses: what a forge is told, in which form, and what happens when it does not take it."""

import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service.workspaces import statuses
from service.workspaces.statuses import ERROR, FAILURE, PENDING, SUCCESS, Statuses
from tests.workspaces.forge import TOKEN, Forge

SHA = "5" * 40
GITHUB = "/repos/acme/shop/statuses/{sha}"
GITEA = "/api/v1/repos/acme/shop/statuses/{sha}"
GITLAB = "/api/v4/projects/7/statuses/{sha}?ref={branch}"


class Listener:
    """A task's Context, as far as it is needed here."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, text: str) -> None:
        self.lines.append(text)

    def run(self, command: Any, **options: Any) -> Any:
        raise NotImplementedError


@pytest.fixture
def forge() -> Iterator[Forge]:
    made = Forge()
    yield made
    made.server.close()


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
def token(tmp_path: Path) -> Path:
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    return file


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statuses, "PAUSES_SECONDS", (0.0, 0.01, 0.01))


def tell(to: Statuses, listener: Listener, state: str = SUCCESS, **more: Any) -> None:
    given = {"sha": SHA, "branch": "jo+x@example.org", "task": "t" * 64, "text": "the tests have passed"}
    to.tell(listener, state, **(given | more))


@pytest.mark.parametrize("path", [GITHUB, GITEA, GITLAB])
def test_each_forge_gets_a_form_that_it_reads(forge: Forge, listener: Listener, token: Path, path: str) -> None:
    to = Statuses(forge.url(path), token, "https://sandbox.example.org")
    for state in (PENDING, SUCCESS, FAILURE, ERROR):
        tell(to, listener, state, text="x" * 500)
    words = ["pending", "success", "failure", "error"] if path != GITLAB else ["pending", "success", "failed", "failed"]
    assert [each.body["state"] for each in forge.told] == words
    first = forge.told[0]
    assert first.path == path.replace("{sha}", SHA).replace("{branch}", "jo%2Bx%40example.org")
    assert first.body["context"] == "sandbox" and len(first.body["description"]) == 140
    assert first.body["target_url"] == f"https://sandbox.example.org/ui/tasks/{'t' * 64}"
    assert first.headers["Authorization"] == f"Bearer {TOKEN}" and first.headers["User-Agent"] == "sandbox"
    assert listener.lines == []


@pytest.mark.parametrize("sha", ["..", ".", "main", "5" * 39, f"{SHA}\n", "../../keys"])
def test_what_is_no_commit_is_told_to_nobody(forge: Forge, listener: Listener, sha: str) -> None:
    tell(Statuses(forge.url(GITHUB)), listener, sha=sha)
    assert forge.told == []
    assert "is no commit" in listener.lines[0]


def test_a_new_token_counts_at_once_and_without_one_none_is_sent(forge: Forge, listener: Listener, token: Path) -> None:
    tell(Statuses(forge.url(GITEA), token), listener)
    token.write_text("another")
    tell(Statuses(forge.url(GITEA), token), listener)
    tell(Statuses(forge.url(GITEA)), listener)
    assert [each.headers.get("Authorization") for each in forge.told] == [f"Bearer {TOKEN}", "Bearer another", None]
    assert "target_url" not in forge.told[0].body


def test_where_no_url_is_set_nobody_is_told(listener: Listener) -> None:
    tell(statuses.NO_STATUSES, listener)
    assert listener.lines == []


@pytest.mark.parametrize("busy", [500, 503, 429, 408])
def test_a_forge_that_is_busy_is_asked_again(forge: Forge, listener: Listener, busy: int) -> None:
    forge.answers = [busy, busy]
    tell(Statuses(forge.url(GITHUB)), listener)
    assert len(forge.told) == 3 and listener.lines == []


@pytest.mark.parametrize(("answer", "asked"), [(404, 1), (401, 1), (302, 1), (502, 3)])
def test_a_refusal_is_logged_without_the_token_and_fails_nothing(
    forge: Forge, listener: Listener, token: Path, caplog: pytest.LogCaptureFixture, answer: int, asked: int
) -> None:
    forge.answers = [answer] * 3
    with caplog.at_level(logging.WARNING):
        tell(Statuses(forge.url(GITHUB + "?secret=x"), token), listener)
    assert len(forge.told) == asked
    [line], said = listener.lines, caplog.text
    assert str(answer) in line and str(answer) in said
    assert TOKEN not in line + said and "secret=x" not in line + said


@pytest.mark.parametrize("held", ["a\nb-secret", "ключ-secret", None])
def test_a_token_that_cannot_be_sent_is_not_shown(
    forge: Forge, listener: Listener, token: Path, caplog: pytest.LogCaptureFixture, held: str | None
) -> None:
    token.unlink() if held is None else token.write_text(held)
    tell(Statuses(forge.url(GITHUB), token), listener)
    assert forge.told == [] and len(listener.lines) == 1
    assert "secret" not in listener.lines[0] + caplog.text


def test_a_forge_that_says_nothing_is_left(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statuses, "TRY_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        began = time.monotonic()
        tell(Statuses(f"http://127.0.0.1:{silent.getsockname()[1]}{GITHUB}"), listener)
        assert time.monotonic() - began < 20
    assert len(listener.lines) == 1
