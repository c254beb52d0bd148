"""SANDBOX_URL and SANDBOX_TOKEN, from the environment or as arguments."""

import pytest

from sandbox_client import Client, WrongAddress
from sandbox_client.address import find

TOKEN = "sbx_secret"


def test_arguments_come_before_the_environment() -> None:
    environ = {"SANDBOX_URL": "https://example.org/sandbox", "SANDBOX_TOKEN": TOKEN}
    assert find(None, None, environ) == ("https://example.org/sandbox", None, {"Authorization": f"Bearer {TOKEN}"})
    assert find("unix:/run/s.sock", "other", environ) == (
        "http://localhost",
        "/run/s.sock",
        {"Authorization": "Bearer other"},
    )
    assert find(None, None, {"SANDBOX_TOKEN": ""}) == ("http://127.0.0.1:8000", None, {})


@pytest.mark.parametrize(
    "url", ["localhost:8000", "ftp://x", "http://", "http://x:port", "http://x:0", "http://[", "unix:s.sock", "unix:"]
)
def test_a_wrong_address_is_named(url: str) -> None:
    with pytest.raises(WrongAddress, match="SANDBOX_URL is ") as raised:
        find(None, None, {"SANDBOX_URL": url})
    assert repr(url) in str(raised.value)


def test_a_password_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WrongAddress) as raised:
        find("http://me:hidden@x", None, {})
    assert "hidden" not in str(raised.value)
    with pytest.raises(WrongAddress) as raised:
        find(None, f"{TOKEN}\n", {})
    assert TOKEN not in str(raised.value)
    monkeypatch.setenv("SANDBOX_TOKEN", TOKEN)
    with Client() as client:
        assert TOKEN not in repr(client) and "127.0.0.1:8000" in repr(client)
