"""A builder on the steward's host: does one action as a task does, and prints how it ended.

python -m tests.workspaces.steward.builder ACTION ARGUMENTS-AS-JSON [POINT [WHAT]]

At a point, as in victim.py, it is killed; or WHAT is: the steward, the circusd of the workspaces, or everything that is
at work, builder and cages too.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from service.workspaces import nginx, supervisor
from service.workspaces.mirror import Mirror, Origin
from service.workspaces.places import Places
from service.workspaces.steward_client import Steward, StewardHands
from service.workspaces.work import Plan
from tests.workspaces.steward.stage import BASE, PROGRAM, SOCKET
from tests.workspaces.victim import Deadly, die
from tests.workspaces.yard import do

ORIGIN = "/srv/origin.git"
DOMAIN = "shop.example.org"
FIRST_UID = 70_000  # and above: the workspaces' own


def is_steward(process: Path) -> bool:
    return f"{PROGRAM}\0serve".encode() in (process / "cmdline").read_bytes()


def is_circusd(process: Path) -> bool:
    return b"second_circusd" in (process / "cmdline").read_bytes()


def is_of_a_workspace(process: Path) -> bool:
    return process.stat().st_uid >= FIRST_UID


def kill(*kinds: Callable[[Path], bool]) -> None:
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if any(kind(process) for kind in kinds):
                os.kill(int(process.name), signal.SIGKILL)


def kill_everything() -> None:
    kill(is_steward, is_circusd, is_of_a_workspace)
    die()


KILLS: dict[str, Callable[[], None]] = {
    "builder": die,
    "steward": lambda: kill(is_steward),
    "circusd": lambda: kill(is_circusd),
    "everything": kill_everything,
}


def plan(deadly: Callable[[Any], Any] = lambda real: real) -> Plan:
    places, site, steward = Places.under(Path(BASE)), nginx.Addresses.at(DOMAIN, ""), Steward(Path(SOCKET))
    web = supervisor.WebProcesses(places, site=site, memory_mb=512, program=lambda: list(steward.ask("about")["web"]))
    return Plan(
        places=places,
        site=site,
        mirror=deadly(Mirror(places.mirror, Origin(ORIGIN))),
        hands=deadly(StewardHands(steward, web)),
    )


def main() -> None:
    action, arguments, *where = sys.argv[1:]
    made = plan()
    if where:
        point, what = where
        made = plan(lambda real: Deadly(real, point, KILLS[what]))
    outcome = do(made, action, **json.loads(arguments))
    error = outcome.error and outcome.error.message
    log = [line.message for line in outcome.logs]
    print(json.dumps({"status": outcome.status, "result": outcome.result, "error": error, "log": log}))


if __name__ == "__main__":
    main()
