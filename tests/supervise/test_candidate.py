"""How a process on trial starts beside those that serve."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from service.supervise.reload import candidate

START = """
import resource, time
from service.supervise.reload import candidate

def work(seconds):
    '''How often it rests meanwhile.'''
    before = resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass
    return resource.getrusage(resource.RUSAGE_SELF).ru_nvcsw - before

candidate.begin()
print(work(0.2), work(0.2))
candidate.has_started()
print(work(0.2))
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

SHARE = """
import time
from service.supervise.reload import gentle

begun = time.monotonic()
gentle.begin(lambda: False, {of})
while time.process_time() < 0.1:
    pass
gentle.hurry()
print(time.monotonic() - begun)
"""

OFTEN = 100  # in 0.2 s of the processor's time: after 2 ms, on average
RARELY = 3


def rests(folder: str) -> list[int]:
    environment = {**os.environ, candidate.VARIABLE: folder}
    done = subprocess.run([sys.executable, "-c", START], env=environment, capture_output=True, text=True, check=True)
    return [int(word) for word in done.stdout.split()]


def test_it_leaves_the_processor_to_others_again_and_again_until_it_has_started(tmp_path: Path) -> None:
    (tmp_path / candidate.BEGUN).write_text(f"{time.monotonic()} 600")
    first, second, after = rests(str(tmp_path))
    assert first >= OFTEN and second >= OFTEN
    assert after <= RARELY


def test_it_hurries_when_half_of_its_time_is_over(tmp_path: Path) -> None:
    (tmp_path / candidate.BEGUN).write_text(f"{time.monotonic() - 16} 30")
    assert max(rests(str(tmp_path))) <= RARELY


@pytest.mark.parametrize("way", ["ends", "tell"])
def test_what_fails_meanwhile_tells_waits_once_to_be_killed_and_ends_in_its_own_way(tmp_path: Path, way: str) -> None:
    """Not by the alarm, whose handler Python gives up before it has taken itself apart."""
    (tmp_path / candidate.BEGUN).write_text(f"{time.monotonic()} 600")
    environment = {**os.environ, candidate.VARIABLE: str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", END, way], env=environment, capture_output=True, text=True)
    assert done.returncode == 7, done.stderr
    [mark] = tmp_path.glob(f"{candidate.FAILED}.*")
    assert time.time() - mark.stat().st_mtime > candidate.KILL_SECONDS
    if way == "tell":
        first, second = map(float, done.stdout.split())
        assert first > candidate.KILL_SECONDS > second


def test_many_workers_rest_for_longer() -> None:
    assert seconds_at_least(of=1) < seconds_at_least(of=4 * (os.cpu_count() or 1))


def seconds_at_least(of: int) -> float:
    """The quickest of three, for 0.1 s of the processor's time."""
    words = [sys.executable, "-c", SHARE.format(of=of)]
    return min(float(subprocess.run(words, capture_output=True, check=True).stdout) for _ in range(3))


@pytest.mark.parametrize("folder", ["", "/no/such/folder"])
def test_without_a_trial_it_hurries(folder: str) -> None:
    assert max(rests(folder)) <= RARELY
