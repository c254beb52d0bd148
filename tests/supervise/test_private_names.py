"""The tables of what is used of circus and gunicorn, and private to them."""

import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

from service.supervise import private_names
from service.supervise.private_names import CIRCUS, GUNICORN, MissingName, Name, Vendor

ROOT = Path(__file__).resolve().parents[2]

LACKING = """
import runpy
from gunicorn.workers import ggevent
del ggevent.GeventResponse
runpy.run_module("service.cli.serve", run_name="__main__")
"""


@pytest.mark.parametrize("vendor", [CIRCUS, GUNICORN], ids=lambda vendor: vendor.name)
def test_the_pinned_version_has_all_names(vendor: Vendor) -> None:
    private_names.check(vendor)
    pinned = re.search(rf"^{vendor.name}==(.+)$", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert pinned and pinned[1] == vendor.version


def test_there_is_a_function_for_each_name_that_is_replaced() -> None:
    ours = [name.ours for name in CIRCUS.names if name.ours]
    assert ours and all(callable(pkgutil.resolve_name(place)) for place in ours)


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        (Name("circus.arbiter:Arbiter.fly", "it flies"), "circus.arbiter:Arbiter.fly"),
        (Name("circus.util:to_bool", "it flies", has=("wings",)), "circus.util:to_bool.wings"),
        (Name("builtins:object", "it flies", has=("wings",)), "builtins:object.wings"),
        (Name("circus.nowhere:fly", "it flies"), "circus.nowhere:fly"),
        (Name("circus.arbiter:Arbiter", "it flies", has=("_stopping", "_wings")), "circus.arbiter:Arbiter._wings"),
    ],
)
def test_a_name_that_is_missing_is_told(name: Name, missing: str) -> None:
    said = f"circus 0.19.0 has no {missing}, which sandbox needs (it flies). Install circus 0.18."
    with pytest.raises(MissingName, match=re.escape(said)):
        private_names.check(Vendor("circus", "0.18", (name,)))


def test_a_gunicorn_that_lacks_a_name_is_refused_with_that_name() -> None:
    refused = subprocess.run([sys.executable, "-c", LACKING], cwd=ROOT, capture_output=True, text=True)
    assert refused.returncode == 1
    assert refused.stderr.startswith("sandbox: gunicorn 27.0.1 has no gunicorn.workers.ggevent:GeventResponse, which ")
