"""How the weight of a session is lowered, and raised again."""

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.supervise.reload import gentle
from tests.servers import eventually

AS_NOBODY = """
import ctypes, os, time
from service.supervise.reload import gentle

if os.getuid() == 0:
    os.setuid(65534)
    ctypes.CDLL(None).prctl(4, 1)  # /proc/self is its own, as after an exec
for nice in (gentle.LOW, gentle.USUAL):
    while not gentle.weigh(os.getpid(), nice):
        time.sleep(0.02)
    print(open("/proc/self/autogroup").read().split()[-1])
"""


@pytest.fixture
def leader() -> Iterator[int]:
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as process:
        yield process.pid
        process.kill()


def weight(pid: int) -> int:
    found = re.search(r"nice (-?\d+)", Path(f"/proc/{pid}/autogroup").read_text())
    assert found
    return int(found[1])


def is_weighed(pid: int, nice: int) -> Callable[[], bool]:
    return lambda: gentle.weigh(pid, nice)


def test_a_session_gets_little_of_the_processors_and_then_its_share_again(leader: int) -> None:
    eventually(is_weighed(leader, gentle.LOW))
    assert weight(leader) == gentle.LOW
    eventually(is_weighed(leader, gentle.USUAL))
    assert weight(leader) == gentle.USUAL


def test_an_ordinary_user_may_do_both() -> None:
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY], capture_output=True, text=True, start_new_session=True, check=True
    )
    assert done.stdout.split() == [str(gentle.LOW), "0"]


def test_what_has_ended_weighs_nothing() -> None:
    with subprocess.Popen(["true"], start_new_session=True) as process:
        process.wait()
        assert gentle.weigh(process.pid, gentle.LOW)
