"""How a process on trial starts beside those that serve."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from service import trial
from tests.servers import eventually

START = """
import resource, time
from service import trial

def work(seconds):
    '''How often it rests meanwhile.'''
    before = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before

trial.begin()
print(work(0.2), work(0.2))
trial.has_started()
print(work(0.2))
"""

END = """
import os, redis, flask, sys
from service import trial

trial.begin()
if not os.fork():
    sys.exit(0)
os.wait()
assert os.listdir(os.environ["SANDBOX_TRIAL"]) == ["begun"]
sys.exit(7)
"""

OFTEN = 100  # in 0.2 s of the processor's time: nobody waits for it for longer than 2 ms
RARELY = 3


def rests(folder: str) -> list[int]:
    environment = {**os.environ, trial.VARIABLE: folder}
    done = subprocess.run([sys.executable, "-c", START], env=environment, capture_output=True, text=True, check=True)
    return [int(word) for word in done.stdout.split()]


def test_it_leaves_the_processor_to_others_again_and_again_until_it_has_started(tmp_path: Path) -> None:
    (tmp_path / trial.BEGUN).write_text(f"{time.monotonic()} 600")
    first, second, after = rests(str(tmp_path))
    assert first >= OFTEN and second >= OFTEN
    assert after <= RARELY


def test_it_hurries_when_half_of_its_time_is_over(tmp_path: Path) -> None:
    (tmp_path / trial.BEGUN).write_text(f"{time.monotonic() - 16} 30")
    assert max(rests(str(tmp_path))) <= RARELY


def test_what_ends_meanwhile_tells_and_waits_to_be_killed(tmp_path: Path) -> None:
    """Afterwards it ends in its own way: Python gives up a signal's handler before it has taken itself apart."""
    folder = tmp_path / "trial"
    folder.mkdir()
    (folder / trial.BEGUN).write_text(f"{time.monotonic()} 600")
    with subprocess.Popen([sys.executable, "-c", END], env={**os.environ, trial.VARIABLE: str(folder)}) as process:
        eventually((folder / f"{trial.FAILED}.{process.pid}").exists)
        assert process.poll() is None
        folder.rename(tmp_path / "over")
        assert process.wait() == 7


@pytest.mark.parametrize("folder", ["", "/no/such/folder"])
def test_without_a_trial_it_hurries(folder: str) -> None:
    assert max(rests(folder)) <= RARELY
