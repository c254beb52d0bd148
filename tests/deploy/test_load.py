"""Deploys and rollbacks, good and bad, while clients create tasks: no request fails, and no accepted task is lost."""

import re

import pytest

from tests.deploy import broken
from tests.deploy.broken import CRASH_SECONDS, FAULTS, IS_NEVER_READY
from tests.deploy.load import Clients
from tests.deploy.test_kills import a_new_release
from tests.deploy.world import World
from tests.servers import eventually


def a_good_one(world: World) -> str:
    a_new_release(world)
    world.project.fab("deploy")
    return str(world.host.current)


def a_bad_one(world: World, fault: broken.Fault) -> None:
    good = world.host.current
    broken.commit(world.project, fault)
    said = world.project.fab("deploy", code=1)
    broken.undo(world.project)
    assert re.search(fault.told, said)
    assert world.host.current == good
    bad = max(release for release, state in world.host.releases().items() if state == "bad")
    assert re.search(fault.told, (world.host.folder / "srv/sandbox/releases" / bad / ".bad").read_text())
    assert f"current {good}, serving {good}" in world.project.fab("status")


@pytest.mark.slow
@pytest.mark.ci
def test_ten_deploys_and_rollbacks_under_load_fail_no_request_and_lose_no_task(world: World) -> None:
    """And after five failures and a success, a rollback goes to the last good one."""
    world.project.stage(world.hosts, verify_seconds=CRASH_SECONDS + 2)
    assert eventually(world.serves, 60)
    with Clients(world).at_work() as clients:
        last_good = a_good_one(world)
        for fault in (*FAULTS.values(), IS_NEVER_READY):
            a_bad_one(world, fault)
        for _ in range(2):
            a_good_one(world)
            world.project.fab("rollback")
            assert world.host.current == last_good
    clients.all_is_well()
    assert len(clients.accepted) > 100
