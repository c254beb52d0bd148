"""What is said to be there is on the disk: the power may go at any moment."""

import hashlib
import io
import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.deploy.world import World
from tests.system.instance import ROOT

REMOTE = ROOT / "deploy" / "remote"
SYNC = """#!/bin/sh
echo "$*: $(cd "$ROOT" && find . -type f ! -name log ! -name sync | sort | tr '\\n' ' ')" >>"$ROOT/log"
"""
NOTES_THE_ORDER = """
import os, runpy, sys
def noting(name):
    call = getattr(os, name)
    def noted(what, *more):
        path = os.readlink(f"/proc/self/fd/{what}") if name == "fsync" else str(what)
        print(name, path, os.path.getsize(path), file=sys.stderr)
        call(what, *more)
    setattr(os, name, noted)
noting("fsync"), noting("replace")
runpy.run_path(sys.argv[1])
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for folder in ("shared/wheels", "releases/r"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "sync").write_text(SYNC)
    (tmp_path / "sync").chmod(0o755)
    return tmp_path


def run(root: Path, script: str, *words: str, stdin: bytes = b"") -> list[str]:
    """What was synced, and which files there were."""
    command = ("bash", "--norc", "-euo", "pipefail", "-c", (REMOTE / script).read_text(), script, *words)
    environment = {"ROOT": str(root), "PATH": f"{root}:{os.environ['PATH']}"}
    subprocess.run(command, env=environment, input=stdin, check=True)
    log = root / "log"
    return log.read_text().replace(str(root), "").splitlines() if log.exists() else []


def test_a_release_is_on_the_disk_before_it_is_complete_and_that_it_is_afterwards(root: Path) -> None:
    assert run(root, "complete.sh", "r") == ["-f /releases/r: ", "-f /releases/r: ./releases/r/.complete "]


def test_wheels_are_on_the_disk_before_they_are_in_their_places(root: Path) -> None:
    content = b"a wheel"
    digest = hashlib.sha256(content).hexdigest()
    with io.BytesIO() as buffer:
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            one = tarfile.TarInfo(f"{digest}/shop-1-py3-none-any.whl")
            one.size = len(content)
            tar.addfile(one, io.BytesIO(content))
        [synced] = run(root, "upload.sh", stdin=buffer.getvalue())
    what, _, files = synced.partition(": ")
    assert what == "-f ." and files.startswith("./shared/wheels/.incoming.")
    assert (root / "shared/wheels" / digest / "shop-1-py3-none-any.whl").read_bytes() == content


def test_a_file_of_the_host_is_on_the_disk_before_it_replaces_another(world: World) -> None:
    file = {"path": "/etc/default/sandbox", "owner": "root", "group": "sandbox", "mode": 0o640, "content": "A='1'\n"}
    given = {"what": "now", "release": "r", "files": [file], "overwrite": True, "secrets": []}
    (world.host.folder / "home/given").write_text(json.dumps(given))
    (world.host.folder / "home/noting.py").write_text(NOTES_THE_ORDER)
    noted = world.host.sh(f"/usr/bin/python3 /home/noting.py {REMOTE / 'place.py'} </home/given 2>&1 >/dev/null")
    lines = [line.split() for line in noted.splitlines()]
    assert [words[0] for words in lines] == ["fsync", "replace"] * (len(lines) // 2)
    assert all(synced[1:] == replacing[1:] for synced, replacing in zip(lines[::2], lines[1::2], strict=True))
    assert int(lines[0][2]) > 0
