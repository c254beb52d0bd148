"""The state folder's locks."""

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service import settings
from service.errors import AlreadyRunning, SettingsError
from service.supervise.start import state

HOLD = """
import sys, time
from pathlib import Path
from service.supervise.start import state
assert state.lock(Path(sys.argv[1])) is None
print("held", flush=True)
time.sleep(float(sys.argv[2]))
"""


@contextmanager
def held(path: Path, seconds: float) -> Iterator[int]:
    words = [sys.executable, "-c", HOLD, str(path), str(seconds)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        yield holder.pid
        holder.kill()


def test_a_redis_that_is_just_ending_is_waited_for(tmp_path: Path) -> None:
    read = settings.read({"SANDBOX_HOME": str(tmp_path)})
    state.redis_folder(read).mkdir()
    with held(state.redis_folder(read) / "lock", 0.3):
        state.refuse_foreign_redis(read)


def test_a_redis_that_goes_on_is_named(tmp_path: Path) -> None:
    read = settings.read({"SANDBOX_HOME": str(tmp_path)})
    state.redis_folder(read).mkdir()
    with held(state.redis_folder(read) / "lock", 60) as pid, pytest.raises(AlreadyRunning, match=rf"\(process {pid}\)"):
        state.refuse_foreign_redis(read)


def test_a_lock_of_the_data_that_cannot_be_opened_is_told_in_words(tmp_path: Path) -> None:
    read = settings.read({"SANDBOX_HOME": str(tmp_path)})
    state.redis_folder(read).mkdir()
    (state.redis_folder(read) / "lock").symlink_to("lock")
    with pytest.raises(SettingsError, match=r"SANDBOX_HOME is .*redis/lock"):
        state.refuse_foreign_redis(read)


def test_whoever_looks_is_answered_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`sandbox restart` looks again and again."""
    read = settings.read({"SANDBOX_HOME": str(tmp_path)})
    read.sockets.mkdir(parents=True)
    assert state.owner(read) is None
    with held(read.sockets / "lock", 60) as pid:
        monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("it waits"))
        assert state.owner(read) == pid


def test_one_that_looks_keeps_none_from_starting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = settings.read({"SANDBOX_HOME": str(tmp_path)})
    read.sockets.mkdir(parents=True)
    monkeypatch.setattr(state, "_held", {})
    with open(read.sockets / "lock", "w") as looking:
        fcntl.flock(looking, fcntl.LOCK_SH)
        assert state.owner(read) is None
        monkeypatch.setattr(time, "sleep", lambda _: fcntl.flock(looking, fcntl.LOCK_UN))
        state.prepare(read)
    state.let_go()


def test_a_holder_that_has_not_written_its_number_yet_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(tmp_path / "lock", "w") as held_elsewhere:
        fcntl.flock(held_elsewhere, fcntl.LOCK_EX)
        monkeypatch.setattr(time, "sleep", lambda _: os.pwrite(held_elsewhere.fileno(), b"4711\n", 0))
        assert state.lock(tmp_path / "lock") == 4711


@pytest.mark.parametrize(
    ("home", "logs", "said"),
    [
        ("home", "file", "SANDBOX_LOGS is '{}/file'"),
        ("home", "file/below", "SANDBOX_LOGS is '{}/file/below'"),
        ("file", "", "SANDBOX_HOME is '{}/file'"),
        ("file", "logs", "SANDBOX_HOME is '{}/file'"),
        ("file", "file/logs", "SANDBOX_HOME is '{}/file'"),
    ],
)
def test_a_folder_that_cannot_be_made_is_told_with_its_setting(tmp_path: Path, home: str, logs: str, said: str) -> None:
    (tmp_path / "file").touch()
    variables = {"SANDBOX_HOME": str(tmp_path / home), "SANDBOX_LOGS": str(tmp_path / logs) if logs else ""}
    with pytest.raises(SettingsError, match=f"^{said.format(tmp_path)}, which cannot be used: "):
        state.prepare(settings.read(variables))
