"""The files of the web processes."""

from pathlib import Path

from service.workspaces.nginx import Addresses
from service.workspaces.places import Places
from service.workspaces.supervisor import WebProcesses

MINE, NEIGHBOURS = "w-jo-aaaaaaaa", "w-jo-bbbbbbbb"


def test_a_removal_takes_the_logs_too(tmp_path: Path) -> None:
    places = Places.under(tmp_path)
    places.run.mkdir()
    logs = [places.run / name for name in (f"{MINE}.log", f"{MINE}.log.1", f"{NEIGHBOURS}.log.1")]
    for log in logs:
        log.touch()
    WebProcesses(places, site=Addresses("localhost", by_port=True), memory_mb=64).remove(MINE)
    assert [log for log in logs if log.exists()] == [places.run / f"{NEIGHBOURS}.log.1"]
