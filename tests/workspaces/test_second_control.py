"""What the circusd of the workspaces leaves when it was killed, and who ends it."""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.workspaces.second_control import ALIVE, SecondCircusd
from tests.servers import eventually

ENDS_WITHOUT_AN_ANSWER = """
import fcntl, os, sys, zmq
alive = open(sys.argv[2], "ab")
line = zmq.Context().socket(zmq.ROUTER)
line.bind("ipc://" + sys.argv[1])
fcntl.flock(alive, fcntl.LOCK_EX)
line.recv_multipart()
os._exit(0)
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


@pytest.fixture
def nginx(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """A process of that name, below a folder."""
    folder = tmp_path / request.param
    folder.mkdir(exist_ok=True)
    program = folder / "nginx"
    shutil.copy(shutil.which("sleep") or "", program)
    with open(folder / "nginx.log", "ab") as log:
        process = subprocess.Popen([str(program), "600"], stdout=log)
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize(("nginx", "is_ended"), [("run", True), ("another", False)], indirect=["nginx"])
def test_a_halt_ends_the_nginx_of_these_workspaces_and_no_other(
    run: Path, tmp_path: Path, nginx: "subprocess.Popen[bytes]", is_ended: bool
) -> None:
    assert SecondCircusd(run, tmp_path / "w").halt() is is_ended
    if is_ended:
        eventually(lambda: nginx.poll() is not None)
    else:
        assert nginx.poll() is None


def test_a_lock_that_root_has_made_can_be_taken_by_the_service(run: Path, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        assert SecondCircusd(run, tmp_path / "w").halt() is False
    finally:
        os.umask(before)
    assert (run / "turn.lock").stat().st_mode & 0o777 == 0o644
    (run / "turn.lock").chmod(0o444)  # nobody's to write
    with (
        SecondCircusd(run, tmp_path / "w").turn(),
        open(run / "turn.lock", "rb") as other,
        pytest.raises(BlockingIOError),
    ):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_link_in_the_place_of_the_lock_is_not_followed(run: Path, tmp_path: Path) -> None:
    (run / "turn.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"turn\.lock"):
        SecondCircusd(run, tmp_path / "w").halt()
    assert not (tmp_path / "elsewhere").exists()


def test_a_circusd_that_ends_before_its_answer_was_read_has_ended(run: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-c", ENDS_WITHOUT_AN_ANSWER, str(run / "control.sock"), str(run / ALIVE)]
    circusd = SecondCircusd(run, tmp_path / "w")
    ending = subprocess.Popen(words)
    try:
        eventually(circusd.is_alive)
        assert circusd.halt() is True
        assert ending.wait(60) == 0
    finally:
        ending.kill()
        ending.wait()
