"""What proves a release, and what says nothing of it."""

from tests.deploy.broken import leave_mark
from tests.deploy.world import World
from tests.servers import eventually

OTHER_TOKENS = "/var/lib/sandbox/other-tokens"


def test_marks_of_what_a_release_does_not_replace_do_not_refuse_it(world: World) -> None:
    assert eventually(world.serves, 60)
    for name in ("observer", "sandbox-runner-4711"):
        leave_mark(world.host, name)
    assert set(world.call("GET", "/health/ready")[1]["failing"]) == {"observer", "sandbox-runner-4711"}
    world.project.fab("deploy:verify")
    leave_mark(world.host, "sandbox-runner")
    assert "/health/ready complains: " in world.project.fab("deploy:verify", code=1)


def test_a_token_that_the_service_does_not_know_is_made_anew(world: World) -> None:
    assert eventually(world.serves, 60)
    first = world.token()
    world.project.fab("deploy:verify")
    assert world.token() == first
    world.host.sh("echo >/var/lib/sandbox/tokens")  # somebody has replaced the file
    world.project.fab("deploy:verify")
    assert world.token() != first and world.runs_a_task()

    world.project.stage(world.hosts, environment=f'SANDBOX_TOKENS = "{OTHER_TOKENS}"')
    world.project.fab("deploy")  # the service goes on with the file that it has
    assert world.runs_a_task()
    world.project.fab("restart")
    assert world.runs_a_task()
