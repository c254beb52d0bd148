"""How long it takes on a machine that does nothing else: `make bench-deploy`. As a test it would fail on a busy one."""

import time

from tests.deploy.test_kills import a_new_release
from tests.deploy.world import World
from tests.servers import eventually

DEPLOY_SECONDS = 20
ROLLBACK_SECONDS = 5
DEFAULT_VERIFY_SECONDS = 5


def seconds_of(world: World, *words: str) -> float:
    began = time.monotonic()
    said = world.project.fab(*words)
    took = time.monotonic() - began
    print(f"\nfab test {' '.join(words)}: {took:.1f} s\n{said}")
    return took


def test_a_deploy_that_changes_only_code_and_a_rollback_are_quick(world: World) -> None:
    world.project.stage(world.hosts, verify_seconds=DEFAULT_VERIFY_SECONDS)
    assert eventually(world.serves, 60)
    a_new_release(world)
    assert seconds_of(world, "deploy") < DEPLOY_SECONDS
    assert seconds_of(world, "rollback") < ROLLBACK_SECONDS
