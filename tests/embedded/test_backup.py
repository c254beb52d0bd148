"""A backup of the embedded server's data, taken while it works."""

import contextlib
import os
import stat
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from service.embedded import backup
from service.errors import SandboxError
from service.store import SCRIPTS, Store
from service.store.connection import connect
from service.tasks import moments
from service.tasks.document import NO_ARGS, Task
from service.tasks.uid import random_prefix
from tests.cli.test_cli import sandbox
from tests.servers import RedisServer, eventually


@contextlib.contextmanager
def over_and_over(act: object, *words: object) -> Iterator[None]:
    """In a thread, until the end of the block."""
    ended = threading.Event()

    def go_on() -> None:
        while not ended.is_set():
            act(*words)  # type: ignore[operator]

    thread = threading.Thread(target=go_on)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(10)


def create(store: Store, accepted: list[str]) -> None:
    uid = store.uid(random_prefix())
    args = NO_ARGS
    store.create([Task(uid=uid, type="echo", queue="default", status="queued", args=args, created_at=moments.stamp(0))])
    accepted.append(uid)


def rewrite(client: redis.Redis) -> None:
    with contextlib.suppress(redis.ResponseError):  # one is under way
        client.bgrewriteaof()
    time.sleep(0.002)


def restored(file: Path, home: Path) -> RedisServer:
    home.mkdir()
    subprocess.run(("tar", "-C", str(home), "-xf", str(file)), check=True)
    return RedisServer(home / "redis").start()


def missing(server: RedisServer, uids: list[str]) -> list[str]:
    store = Store(connect(server.url, SCRIPTS))
    try:
        return [uid for uid, found in zip(uids, store.read_many(uids), strict=True) if found is None]
    finally:
        store.close()
        server.kill()


def test_what_was_accepted_before_it_began_is_in_it(own_server: RedisServer, folder: Path) -> None:
    store, file = Store(connect(own_server.url, SCRIPTS)), folder / "backup.tar"
    accepted: list[str] = []
    with own_server.client() as client:
        with over_and_over(create, store, accepted), over_and_over(rewrite, client):
            for number in range(10):
                time.sleep(0.2)
                before = list(accepted)
                backup.save(own_server.folder, file)
                assert before and not missing(restored(file, folder / str(number)), before)
        assert client.info("stats")["total_forks"] > 10
        eventually(lambda: not client.info("persistence")["aof_rewrite_in_progress"])
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    store.close()


def test_files_that_a_rewrite_removes_are_looked_for_anew(tmp_path: Path) -> None:
    """The manifest is of before the rewrite, and the folder of after it, until one looks again."""
    data = tmp_path / "redis" / "appendonlydir"
    data.mkdir(parents=True)
    manifest = data / "appendonly.aof.manifest"
    manifest.write_text("file one.aof seq 1 type i\n")
    timer = threading.Timer(0.2, manifest.write_text, ["file two.aof seq 2 type i\nfile one.aof seq 1 type h\n"])
    (data / "two.aof").write_text("two")
    timer.start()
    backup.save(tmp_path / "redis", tmp_path / "backup.tar")
    timer.join()
    subprocess.run(("tar", "-C", str(tmp_path), "-xf", "backup.tar", "--one-top-level=home"), cwd=tmp_path, check=True)
    copy = tmp_path / "home" / "redis" / "appendonlydir"
    assert {file.name: file.read_text() for file in copy.iterdir()} == {
        "appendonly.aof.manifest": "file two.aof seq 2 type i\n",
        "two.aof": "two",
    }


def test_without_data_or_room_nothing_is_left(tmp_path: Path) -> None:
    file = tmp_path / "backup.tar"
    file.write_text("of yesterday")
    with pytest.raises(SandboxError, match="no data"):
        backup.save(tmp_path / "redis", file)
    assert [entry.name for entry in tmp_path.iterdir()] == ["backup.tar"]
    assert file.read_text() == "of yesterday"


@pytest.mark.parametrize("harm", [lambda text: b"", lambda text: text.splitlines(keepends=True)[0], len, None])
def test_a_damaged_manifest_makes_no_backup(own_server: RedisServer, tmp_path: Path, harm: Any) -> None:
    """It would have next to no data, and replace the one of yesterday."""
    file, manifest = tmp_path / "backup.tar", own_server.folder / "appendonlydir" / "appendonly.aof.manifest"
    file.write_text("of yesterday")
    if harm is None:
        manifest.unlink()
    else:
        manifest.write_bytes(bytes(harm(manifest.read_bytes())))
    with pytest.raises(SandboxError, match=f"{manifest} is missing or damaged"):
        backup.save(own_server.folder, file)
    assert file.read_text() == "of yesterday"


def test_what_is_no_file_is_not_replaced_and_a_link_is_followed(tmp_path: Path) -> None:
    data = tmp_path / "redis" / "appendonlydir"
    data.mkdir(parents=True)
    (data / "appendonly.aof.manifest").write_text("")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SandboxError, match="is not a file"):
        backup.save(tmp_path / "redis", tmp_path / "pipe")
    assert (tmp_path / "pipe").is_fifo()
    (tmp_path / "link").symlink_to("backup.tar")
    backup.save(tmp_path / "redis", tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and tarfile.is_tarfile(tmp_path / "backup.tar")


def test_the_command_says_what_is_wrong_in_one_line(folder: Path) -> None:
    own = sandbox("backup", str(folder / "b.tar"), SANDBOX_HOME=str(folder), REDIS_URL="redis://localhost")
    assert (own.returncode, own.stderr.count("\n")) == (1, 1) and "REDIS_URL" in own.stderr
    nowhere = sandbox("backup", str(folder / "no" / "b.tar"), SANDBOX_HOME=str(folder))
    assert (nowhere.returncode, nowhere.stderr.count("\n")) == (1, 1) and "No such file" in nowhere.stderr
    none = sandbox("backup", str(folder / "b.tar"), SANDBOX_HOME=str(folder))
    assert (none.returncode, none.stderr.count("\n")) == (1, 1) and "no data" in none.stderr


def test_the_command_makes_a_backup(own_server: RedisServer, folder: Path) -> None:
    (folder / "redis").symlink_to(own_server.folder)
    with own_server.client() as client:
        client.set("a", "b")
    done = sandbox("backup", str(folder / "b.tar"), SANDBOX_HOME=str(folder))
    assert (done.returncode, done.stderr) == (0, "")
    server = restored(folder / "b.tar", folder / "home")
    try:
        assert server.client().get("a") == b"b"
    finally:
        server.kill()
