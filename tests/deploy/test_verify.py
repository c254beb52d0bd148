"""What proves a release, and what says nothing of it."""

from tests.deploy.world import World
from tests.servers import eventually

MARKS = "/var/lib/sandbox/run/throttled"


def test_marks_of_what_a_release_does_not_replace_do_not_refuse_it(world: World) -> None:
    assert eventually(world.serves, 60)
    world.host.sh(f"mkdir -p {MARKS}; chown root {MARKS}; cd {MARKS}; touch observer sandbox-runner-4711")  # they stay
    assert set(world.call("GET", "/health/ready")[1]["failing"]) == {"observer", "sandbox-runner-4711"}
    world.project.fab("deploy:verify")
    world.host.sh(f"touch {MARKS}/sandbox-runner")
    assert "/health/ready complains: " in world.project.fab("deploy:verify", code=1)
