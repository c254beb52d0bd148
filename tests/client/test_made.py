"""The half without async is made of the other one, and is fresh."""

import runpy

import pytest

from tests.system.instance import ROOT

CLIENT = ROOT / "client"
MAKER = runpy.run_path(str(CLIENT / "make_sync.py"))


@pytest.mark.parametrize(("source", "target"), MAKER["MADE"].items())
def test_each_file_is_what_make_client_makes(source: str, target: str) -> None:
    assert (CLIENT / "sandbox_client" / target).read_text() == MAKER["made"](source), "call `make client`"
