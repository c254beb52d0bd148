"""What a process on trial says of itself."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from service.supervise.reload import candidate

START = """
import sys, time
from service.supervise.reload import candidate

candidate.begin()
time.sleep(1.5)  # here it hangs
if "started" in sys.argv:
    candidate.has_started()
    time.sleep(1.5)
"""

END = """
import os, redis, flask, sys, time
from service.supervise.reload import candidate

candidate.begin()
if not os.fork():
    sys.exit(0)
os.wait()
assert os.listdir(os.environ["SANDBOX_TRIAL"]) == ["begun"]
if "tell" in sys.argv:
    begun = time.monotonic()
    candidate.fail()
    told = time.monotonic()
    candidate.fail()
    print(told - begun, time.monotonic() - told)
sys.exit(7)
"""


def said(folder: Path, *words: str) -> str:
    environment = {**os.environ, candidate.VARIABLE: str(folder)}
    subprocess.run([sys.executable, "-c", START, *words], env=environment, check=True)
    output = folder / candidate.OUTPUT
    return output.read_text() if output.exists() else ""


def test_it_says_where_it_is_when_two_thirds_of_its_time_are_over(tmp_path: Path) -> None:
    (tmp_path / candidate.BEGUN).write_text(f"{time.monotonic() - 19} 30")
    lines = said(tmp_path).splitlines()
    assert lines[0] == "Not ready yet; it has come as far as this:"
    assert 'File "<string>", line 6, in <module>' in lines[1]


def test_it_says_so_again_when_it_may_have_got_further(tmp_path: Path) -> None:
    (tmp_path / candidate.BEGUN).write_text(f"{time.monotonic() - 2} 3")
    assert said(tmp_path).count("Not ready yet") > 1


def test_what_has_started_in_time_says_nothing(tmp_path: Path) -> None:
    (tmp_path / candidate.BEGUN).write_text(f"{time.monotonic() - 17.5} 30")
    assert said(tmp_path, "started") == ""


@pytest.mark.parametrize("way", ["ends", "tell"])
def test_what_fails_meanwhile_tells_waits_once_to_be_killed_and_ends_in_its_own_way(tmp_path: Path, way: str) -> None:
    (tmp_path / candidate.BEGUN).write_text(f"{time.monotonic()} 600")
    environment = {**os.environ, candidate.VARIABLE: str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", END, way], env=environment, capture_output=True, text=True)
    assert done.returncode == 7, done.stderr
    [mark] = tmp_path.glob(f"{candidate.FAILED}.*")
    assert time.time() - mark.stat().st_mtime > candidate.KILL_SECONDS
    if way == "tell":
        first, second = map(float, done.stdout.split())
        assert first > candidate.KILL_SECONDS > second
