"""A damaged file of the embedded Redis: it is named, and what the docs say mends it."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from service.embedded import valkey
from service.errors import SandboxError
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


def _removed(path: Path) -> None:
    path.unlink()


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _filled_with_zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


@pytest.mark.parametrize(
    ("name", "harm", "state"),
    [
        ("appendonly.aof.1.base.rdb", _cut, "damaged"),
        ("appendonly.aof.1.base.rdb", _filled_with_zeros, "damaged"),
        ("appendonly.aof.1.base.rdb", _removed, "missing"),
        ("appendonly.aof.1.incr.aof", _removed, "missing"),
        ("appendonly.aof.manifest", _filled_with_zeros, "damaged"),
        ("appendonly.aof.manifest", _cut, "damaged"),
    ],
)
def test_each_file_is_named(own_server: RedisServer, name: str, harm: Callable[[Path], None], state: str) -> None:
    folder, log = own_server.folder, own_server.folder / "own.log"
    with own_server.client() as client:
        client.set("key", "value")
    own_server.stop()
    path = folder / "appendonlydir" / name
    harm(path)
    words = valkey.command(own_server.socket, folder, log=log)
    with log.open("ab") as output:
        ended = subprocess.run(
            words, env=valkey.environment(), stdout=output, stderr=subprocess.STDOUT, timeout=60, check=False
        )
    assert ended.returncode != 0
    told = valkey.why_it_ended(folder, log)
    assert told is not None and f" {path} is {state}" in told


def test_data_without_the_last_line_of_their_manifest_are_not_taken_for_none(own_server: RedisServer) -> None:
    """The server would read the base file, and begin anew behind it."""
    with own_server.client() as client:
        client.set("key", "value")
    own_server.stop()
    manifest = own_server.folder / "appendonlydir" / "appendonly.aof.manifest"
    base, commands = manifest.read_text().splitlines(keepends=True)
    manifest.write_text(base)
    with pytest.raises(SandboxError, match=f"{manifest} is missing or damaged"):
        valkey.refuse_lost_data(own_server.folder)
    (manifest.parent / commands.split()[1]).unlink()
    valkey.refuse_lost_data(own_server.folder)  # as of a base file that somebody brings along


@pytest.mark.parametrize("is_rewritten", [False, True])
def test_data_without_their_manifest_are_not_taken_for_none(own_server: RedisServer, is_rewritten: bool) -> None:
    """The server would begin anew, and whoever asks would hear that there are no tasks."""
    valkey.refuse_lost_data(own_server.folder)
    with own_server.client() as client:
        client.set("key", "value")
    own_server.stop()
    manifest = own_server.folder / "appendonlydir" / "appendonly.aof.manifest"
    manifest.unlink()
    if is_rewritten:
        (manifest.parent / "appendonly.aof.1.base.rdb").write_bytes(bytes(200))
        (manifest.parent / "appendonly.aof.1.incr.aof").write_bytes(b"")
    with pytest.raises(SandboxError, match=f"{manifest} is missing"):
        valkey.refuse_lost_data(own_server.folder)


def test_a_base_that_was_cut_to_nothing_is_not_taken_for_one_without_data(own_server: RedisServer) -> None:
    own_server.stop()
    base = own_server.folder / "appendonlydir" / "appendonly.aof.1.base.rdb"
    valkey.refuse_lost_data(own_server.folder)
    base.write_bytes(b"")
    with pytest.raises(SandboxError, match=f"{base} is empty"):
        valkey.refuse_lost_data(own_server.folder)


@pytest.mark.parametrize(
    "name", ["", "appendonly.aof.1.base.rdb", "appendonly.aof.1.incr.aof", "appendonly.aof.manifest"]
)
def test_what_belongs_to_another_user_is_named(own_server: RedisServer, name: str) -> None:
    own_server.stop()
    valkey.refuse_closed_files(own_server.folder)
    path = own_server.folder / "appendonlydir" / name
    path.chmod(0)
    call = "import sys; from pathlib import Path; from service.embedded import valkey; "
    call += "valkey.refuse_closed_files(Path(sys.argv[1]))"
    without_rights = ("setpriv", "--bounding-set=-all") if os.geteuid() == 0 else ()
    words = (*without_rights, sys.executable, "-c", call, str(own_server.folder))
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    path.chmod(0o700)
    assert f"SandboxError: {path} is closed to this user" in done.stderr
