"""The embedded server: what it has answered is written, and soon on the disk."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from service import embedded, fsync
from tests.servers import RedisServer


def test_it_writes_before_it_answers_even_while_the_disk_is_busy(own_server: RedisServer) -> None:
    """With `everysec` a server puts off its writes during an fsync, and answers all the same."""
    with own_server.client() as client:
        assert client.config_get("appendfsync") == {"appendfsync": "no"}
        assert client.config_get("appendonly") == {"appendonly": "yes"}


def test_always_is_left_to_the_server() -> None:
    words = embedded.command(Path("socket"), Path("folder"), "always")
    assert words[words.index("--appendfsync") + 1] == "always"


def test_sync_reaches_every_append_only_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.1.incr.aof", "a.2.incr.aof", "a.manifest"):
        (tmp_path / name).touch()
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor)[stat.ST_INO]))
    fsync.sync(str(tmp_path))
    assert sorted(synced) == sorted(file.stat().st_ino for file in tmp_path.glob("*.aof"))


def test_a_sync_goes_on_after_an_error(tmp_path: Path) -> None:
    (tmp_path / "no-file.aof").mkdir()
    call = "import sys; from service import fsync; fsync.become(sys.argv[1])"
    words = [sys.executable, "-c", call, str(tmp_path)]
    with subprocess.Popen(words, stderr=subprocess.PIPE) as companion:
        assert companion.stderr is not None
        try:
            for _ in range(2):
                assert b"no-file.aof is not safe from a power cut" in companion.stderr.readline()
        finally:
            companion.kill()
