"""The files of the web processes."""

import subprocess
from pathlib import Path

import pytest

from service.workspaces.nginx import Addresses
from service.workspaces.places import Places
from service.workspaces.second_control import ALIVE, SecondCircusd
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


def test_a_removal_takes_a_file_too_that_somebody_who_was_killed_has_begun_to_write(tmp_path: Path) -> None:
    places = Places.under(tmp_path)
    draft = places.run / "conf.d" / f".{MINE}.ini.new"
    draft.parent.mkdir(parents=True)
    draft.touch()
    WebProcesses(places, site=Addresses("localhost", by_port=True), memory_mb=64).remove(MINE)
    assert not draft.exists()


def test_a_killed_circusd_that_still_seems_alive_is_started_anew(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    places = Places.under(folder)
    places.run.mkdir(parents=True)
    (places.run / ALIVE).touch()
    web = WebProcesses(places, site=Addresses("localhost", by_port=True), memory_mb=64)
    dying = subprocess.Popen(["flock", "--no-fork", str(places.run / ALIVE), "sleep", "600"])
    ask = SecondCircusd.call

    def call(*words: object, **what: object) -> object:
        dying.kill()
        return ask(*words, **what)  # type: ignore[arg-type]

    monkeypatch.setattr(SecondCircusd, "call", call)
    try:
        while not SecondCircusd(places.run, places.homes).is_alive():
            pass
        web._order("numwatchers")
        assert SecondCircusd(places.run, places.homes).is_alive()
    finally:
        dying.kill()
        dying.wait()
        SecondCircusd(places.run, places.homes).halt()
