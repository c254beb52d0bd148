"""What proves a release, and what says nothing of it."""

import pytest

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


def waiting(world: World) -> list[str]:
    return [task["type"] for task in world.call("GET", "/tasks?status=queued")[1]["tasks"]]


@pytest.mark.slow
def test_a_task_that_waits_proves_a_release_only_if_it_is_known_why(world: World) -> None:
    assert eventually(world.serves, 60)
    world.call("POST", "/tasks", {"type": "sleep", "args": {"seconds": 45}})
    eventually(lambda: waiting(world) == [], 30)
    assert "is still queued after 30 s" in world.project.fab("deploy:verify", code=1)

    world.call("POST", "/queues/default/pause", {})
    assert "was not executed: its queue is paused" in world.project.fab("deploy:verify")
    assert waiting(world) == []
    world.call("POST", "/queues/default/resume", {})

    for _ in range(8):
        world.call("POST", "/tasks", {"type": "sleep", "args": {"seconds": 10}})
    assert "was not executed: others have waited for longer" in world.project.fab("deploy:verify")
    assert "echo" not in waiting(world)
