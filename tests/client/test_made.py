"""The half without async is made of the other one, and is fresh."""

import runpy

from tests.system.instance import ROOT

CLIENT = ROOT / "client"


def test_client_py_is_what_make_client_makes() -> None:
    made = runpy.run_path(str(CLIENT / "make_sync.py"))["made"]
    assert (CLIENT / "sandbox_client" / "client.py").read_text() == made(), "call `make client`"
