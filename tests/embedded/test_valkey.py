"""The embedded server: what it has answered is written, and soon on the disk."""

import os
import shutil
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from service.embedded import sync, valkey
from tests.servers import RedisServer, eventually


def test_it_writes_before_it_answers_even_while_the_disk_is_busy(own_server: RedisServer) -> None:
    """With `everysec` a server puts off its writes during an fsync, and answers all the same."""
    with own_server.client() as client:
        assert client.config_get("appendfsync") == {"appendfsync": "no"}
        assert client.config_get("appendonly") == {"appendonly": "yes"}


def test_a_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert valkey.full_disk(tmp_path) is None
    used = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: used._replace(free=4096))
    assert valkey.full_disk(tmp_path) == f"the disk of {tmp_path} is full: it has 4096 bytes left"


def test_always_is_left_to_the_server() -> None:
    words = valkey.command(Path("socket"), Path("folder"), "always")
    assert words[words.index("--appendfsync") + 1] == "always"


def test_sync_reaches_every_append_only_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.1.incr.aof", "a.2.incr.aof", "a.manifest"):
        (tmp_path / name).touch()
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor)[stat.ST_INO]))
    sync.sync(str(tmp_path))
    assert sorted(synced) == sorted(file.stat().st_ino for file in tmp_path.glob("*.aof"))


def test_a_sync_that_fails_is_told(tmp_path: Path) -> None:
    (tmp_path / "no-file.aof").mkdir()
    call = "import sys; from service.embedded import sync; sync.become(sys.argv[1])"
    words = [sys.executable, "-c", call, str(tmp_path)]
    with subprocess.Popen(words, stderr=subprocess.PIPE) as companion:
        assert companion.stderr is not None
        try:
            assert b"no-file.aof is not safe from a power cut" in companion.stderr.readline()
        finally:
            companion.kill()


FAILING = """
import os, sys
from service.embedded import sync
tries = open(sys.argv[2], "ab", buffering=0)
def fail(descriptor):
    tries.write(b"x")
    raise OSError("the disk is broken")
os.fsync = fail
sync.SYNC_SECONDS = 0.01
sync.main(sys.argv[1])
"""


@pytest.mark.parametrize("read", [True, False])
def test_a_sync_goes_on_after_an_error_and_tells_once_a_minute_who_reads_it(tmp_path: Path, read: bool) -> None:
    (tmp_path / "appendonly.aof").touch()
    tries = tmp_path / "tries"
    reader, writer = os.pipe()
    if not read:
        os.set_blocking(writer, False)
        with suppress(BlockingIOError):
            while os.write(writer, b"x" * 4096):
                pass
        os.set_blocking(writer, True)
    companion = subprocess.Popen([sys.executable, "-c", FAILING, str(tmp_path), str(tries)], stderr=writer)
    os.close(writer)
    try:
        eventually(lambda: tries.exists() and tries.stat().st_size > 20)
    finally:
        companion.kill()
        companion.wait()
        with open(reader) as text:
            told = text.read()
    assert told.count("is not safe from a power cut: the disk is broken") == read
