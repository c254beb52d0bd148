"""A damaged file of the embedded Redis: it is named, and what the docs say mends it."""

import subprocess
from pathlib import Path

import pytest

from service.embedded import valkey
from tests.servers import RedisServer


@pytest.fixture
def damaged(own_server: RedisServer) -> Path:
    """Its second key is unreadable."""
    with own_server.client() as client:
        for key in ("first", "second"):
            client.set(key, "x" * 100)
    own_server.stop()
    [file] = (own_server.folder / "appendonlydir").glob("*.incr.aof")
    text = file.read_bytes()
    at = text.index(b"SET", text.index(b"first"))
    file.write_bytes(text[: at - 8] + b"#garbage" + text[at:])
    return file


def test_it_is_named_and_what_stands_before_the_damage_can_be_kept(own_server: RedisServer, damaged: Path) -> None:
    folder, log = own_server.folder, own_server.folder / "own.log"
    assert valkey.why_it_ended(folder, log) is None
    words = valkey.command(own_server.socket, folder, log=log)
    assert subprocess.run(words, env=valkey.environment(), timeout=60, check=False).returncode == 1
    told = valkey.why_it_ended(folder, log)
    assert told is not None and f" {damaged} is damaged" in told

    subprocess.run(["redis-check-aof", "--fix", str(damaged)], input=b"y\n", stdout=subprocess.DEVNULL, check=True)
    assert valkey.why_it_ended(folder, log) is None  # it is not damaged any more
    with own_server.start().client() as client:
        assert client.keys() == [b"first"]
