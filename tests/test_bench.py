"""The bench itself: what can go wrong before it has measured anything."""

import json
import os
import subprocess
import sys
import urllib.request
from importlib.metadata import packages_distributions, requires

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bench import web
from bench.processes import environment
from bench.table import MILLISECONDS, MISSED, PER_SECOND, Row, Unit
from tests.system.instance import ROOT

PAGE = ROOT / "bench" / "README.md"


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


def test_the_peers_have_what_the_web_process_imports() -> None:
    """Their Flask views run by the project's own conf/gunicorn.py, which imports the application."""
    program = "import sys, service.cli.wiring, service.web.app, service.web.auth; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    whose = packages_distributions()
    imported = {name for module in done.stdout.split() for name in whose.get(module, [])}
    peers = {each.partition("=")[0] for each in (ROOT / "bench" / "requirements-peers.txt").read_text().splitlines()}
    there = peers | wanted_by("flask")
    assert {canonicalize_name(name) for name in imported} & wanted_by("sandbox") <= there


def test_a_peer_s_view_answers_under_the_project_s_own_gunicorn_settings() -> None:
    with web.flask_server("bench.peers.flask_bare:app", sys.executable) as (url, workers, _):
        body = json.dumps({"type": "echo"}).encode()
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        assert urllib.request.urlopen(request, timeout=60).status == 201
        assert len(workers()) == 2


def wanted_by(distribution: str) -> set[str]:
    return {canonicalize_name(Requirement(each).name) for each in requires(distribution) or []}


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


CUT_SHORT = """
import argparse
from bench import run
from bench.table import BYTES, Row

def measured(_):
    yield Row("a figure", BYTES, [7.0])
    raise TimeoutError("a peer hangs")

run.MEASUREMENTS = {"drain": run.Measurement(measured)}
run.peer.prepare = run.servers.prepare = lambda: None
run._run(argparse.Namespace(only=None, quick=True, write=True))
"""


def test_a_run_that_is_cut_short_shows_what_it_has_measured() -> None:
    before = PAGE.read_text()
    done = subprocess.run(
        [sys.executable, "-c", CUT_SHORT], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, "a peer hangs" in done.stderr) == (1, True)
    assert "| a figure | 7 B" in done.stdout
    assert PAGE.read_text() == before
