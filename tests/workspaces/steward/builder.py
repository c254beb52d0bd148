"""A builder on the steward's host: does one action as a task does, and prints how it ended.

python -m tests.workspaces.steward.builder ACTION ARGUMENTS-AS-JSON
"""

import json
import sys
from pathlib import Path

from service.workspaces import nginx, supervisor
from service.workspaces.mirror import Mirror, Origin
from service.workspaces.places import Places
from service.workspaces.steward_client import Steward, StewardHands
from service.workspaces.work import Plan
from tests.workspaces.steward.stage import BASE, SOCKET
from tests.workspaces.yard import do

ORIGIN = "/srv/origin.git"
DOMAIN = "shop.example.org"


def plan() -> Plan:
    places, site, steward = Places.under(Path(BASE)), nginx.Addresses.at(DOMAIN, ""), Steward(Path(SOCKET))
    web = supervisor.WebProcesses(places, site=site, memory_mb=512, program=lambda: list(steward.ask("about")["web"]))
    return Plan(
        places=places, site=site, mirror=Mirror(places.mirror, Origin(ORIGIN)), hands=StewardHands(steward, web)
    )


if __name__ == "__main__":
    outcome = do(plan(), sys.argv[1], **json.loads(sys.argv[2]))
    error = outcome.error and outcome.error.message
    print(json.dumps({"status": outcome.status, "error": error, "log": [line.message for line in outcome.logs]}))
