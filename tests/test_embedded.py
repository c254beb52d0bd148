"""The embedded server: what it has answered is written, and soon on the disk."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import redis

from service import embedded, fsync
from tests.servers import RedisServer, eventually


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


def test_the_companion_ends_with_the_server(folder: Path) -> None:
    run = "import sys; from pathlib import Path; from service import embedded; "
    run += "embedded.run(Path(sys.argv[1]), Path(sys.argv[2]), 'everysec')"
    server = subprocess.Popen([sys.executable, "-c", run, str(folder / "s"), str(folder / "d")], stdout=subprocess.PIPE)
    try:
        with redis.Redis(unix_socket_path=str(folder / "s")) as client:
            eventually(lambda: (folder / "s").exists() and client.ping())
        [companion] = psutil.Process(server.pid).children()
    finally:
        server.send_signal(signal.SIGKILL)
        server.wait()
        assert server.stdout is not None
        server.stdout.close()
    eventually(lambda: not companion.is_running() or companion.status() == psutil.STATUS_ZOMBIE, 3)
