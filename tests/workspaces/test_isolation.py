"""Plain or isolated: chosen in one place, before anything is started."""

import json
import socket
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from service.cli.building import is_isolated
from service.errors import SettingsError
from service.settings import Settings, read
from service.workspaces.hands import HandsFailed
from service.workspaces.steward_client import Steward


def settings(folder: Path, **more: str) -> Settings:
    given = {
        "SANDBOX_HOME": str(folder),
        "SANDBOX_WORKSPACE_GIT": "/srv/shop.git",
        "SANDBOX_WORKSPACE_STEWARD": str(folder / "steward"),
        "SANDBOX_BIND": f"unix:{folder}/web.sock",
    }
    return read(given | {f"SANDBOX_{name}": value for name, value in more.items()})


def test_without_a_steward_and_at_localhost_they_are_plain(folder: Path) -> None:
    assert not is_isolated(settings(folder))


def test_with_a_steward_they_are_isolated_unless_somebody_wants_it_otherwise(folder: Path) -> None:
    (folder / "steward").touch()
    assert is_isolated(settings(folder))
    assert is_isolated(settings(folder, WORKSPACE_DOMAIN="w.example.org"))
    assert not is_isolated(settings(folder, WORKSPACE_ISOLATION="plain"))


def test_isolated_stays_so_while_the_steward_is_away(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_isolated(settings(folder, WORKSPACE_ISOLATION="isolated", WORKSPACE_DOMAIN="w.example.org"))
    monkeypatch.setattr("service.workspaces.steward_client.CONNECT_SECONDS", 0.0)
    with pytest.raises(HandsFailed, match="service sandbox-steward start"):
        Steward(folder / "steward").ask("about")


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"WORKSPACE_DOMAIN": "w.example.org"}, "workspaces without isolation are for one's own machine"),
        ({"BIND": "10.0.0.1"}, "workspaces without isolation are for one's own machine"),
        ({"WORKSPACE_ISOLATION": "isolated", "BIND": "127.0.0.1"}, "there is no SANDBOX_TOKENS"),
        (
            {"WORKSPACE_ISOLATION": "isolated", "WORKSPACE_INDEX": "https://me:secret@x/simple"},
            "WORKSPACE_INDEX is set",
        ),
        ({"WORKSPACE_ISOLATION": "isolated", "WORKSPACE_DATABASE": "shared"}, "allowed is copy, empty"),
    ],
)
def test_what_would_let_strangers_code_reach_more_than_its_own_is_refused(
    more: dict[str, str], problem: str, folder: Path
) -> None:
    with pytest.raises(SettingsError, match=problem) as refused:
        is_isolated(settings(folder, **more))
    assert "secret" not in str(refused.value)


def answering(folder: Path, text: bytes) -> Steward:
    """A steward that says this to whoever asks once."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(folder / "steward"))
    listener.listen()

    def serve() -> None:
        with listener, listener.accept()[0] as connection, suppress(OSError):
            connection.recv(1000)
            connection.sendall(text)

    threading.Thread(target=serve, daemon=True).start()
    return Steward(folder / "steward")


def test_a_long_answer_of_the_steward_is_read(folder: Path) -> None:
    text = "x" * 1_000_000
    assert answering(folder, json.dumps({"done": text}).encode() + b"\n").ask("about") == text


def test_an_answer_without_an_end_is_not_read_for_ever(folder: Path) -> None:
    with pytest.raises(HandsFailed, match="is longer than 1048576 bytes"):
        answering(folder, b"x" * 30_000_000).ask("about")
