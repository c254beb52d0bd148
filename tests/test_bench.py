"""The bench itself: what can go wrong before it has measured anything."""

import os
import subprocess
import sys

import pytest

from bench.processes import environment
from bench.table import MILLISECONDS, MISSED, PER_SECOND, Row, Unit
from tests.system.instance import ROOT


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ((), "; to go on without post, batch, cost: --only drain --only waiting --only "),
        (("start", "post"), "apt-get install wrk; to go on without post: --only start\n"),
        (("post",), "bench: wrk is not installed: apt-get install wrk\n"),
    ],
)
def test_what_the_machine_lacks_is_told_before_anything_is_measured(names: tuple[str, ...], told: str) -> None:
    words = [sys.executable, str(ROOT / "bench" / "run.py"), *(word for name in names for word in ("--only", name))]
    done = subprocess.run(
        words, env={**os.environ, "PATH": ""}, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert done.stderr.count("\n") == 1


def test_what_a_shell_wants_of_python_reaches_no_process_that_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.setenv("PYTHONMALLOC", "debug")
    assert [name for name in environment() if name.startswith("PYTHON")] == []


@pytest.mark.parametrize(
    ("unit", "ours", "bar", "verdict"),
    [
        (PER_SECOND, 3.0, 2.0, "bar reached"),
        (PER_SECOND, 1.0, 2.0, MISSED),
        (MILLISECONDS, 3.0, 2.0, MISSED),
        (MILLISECONDS, 1.0, 2.0, "bar reached"),
    ],
)
def test_a_ratio_is_judged_by_what_is_better(unit: Unit, ours: float, bar: float, verdict: str) -> None:
    assert Row("what", unit, [ours], "a peer", [1.0], bar=bar).verdict == verdict
