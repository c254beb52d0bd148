"""SANDBOX_URL and SANDBOX_TOKEN, from the environment or as arguments."""

import asyncio

import pytest

from sandbox_client import AsyncClient, Client, WrongAddress
from sandbox_client.address import find
from tests.client.scripted import Answer, serving

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
    "url",
    ["localhost:8000", "ftp://x", "http://", "http://x:port", "http://x:0", "http://[", "unix:s.sock", "unix:",
     "http://tasks..example", f"http://{'a' * 64}.example", "http://x/\udcff"],
)  # fmt: skip
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


def test_no_proxy_of_the_environment_gets_the_token(monkeypatch: pytest.MonkeyPatch, runner: asyncio.Runner) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with serving() as server, serving() as proxy:
        server.answers, proxy.answers = [Answer(200, b'{"limits": []}')], [Answer(502)]
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        with Client(server.url, token=TOKEN, retry_for=0) as client:
            assert client.limits() == []

        async def limits() -> object:
            async with AsyncClient(server.url, token=TOKEN, retry_for=0) as opened:
                return await opened.limits()

        assert runner.run(limits()) == []
        assert (len(server.asked), proxy.asked) == (2, [])
