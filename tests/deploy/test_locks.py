"""Two operators at once, and hosts that go the same way together."""

from collections.abc import Callable

import pytest

from tests.deploy.broken import REFUSES_WHERE_TOLD
from tests.deploy.test_kills import LOADED_SECONDS, a_new_release
from tests.deploy.world import World
from tests.servers import eventually


@pytest.mark.slow
def test_of_two_deploys_at_once_the_second_is_told_who_has_the_lock_or_waits(world: World) -> None:
    a_new_release(world)
    first = world.project.start("deploy", output=world.folder / "first")
    eventually(lambda: world.host.runs("install.sh"), LOADED_SECONDS)
    refused = world.project.fab("deploy", code=1)
    assert "has held the lock since" in refused and "for: deploy of main on test" in refused
    second = world.project.start("deploy", "--lock-wait", "300", output=world.folder / "second")
    assert first.wait(LOADED_SECONDS) == 0, (world.folder / "first").read_text()
    assert second.wait(LOADED_SECONDS) == 0, (world.folder / "second").read_text()
    assert list(world.host.releases().values()) == ["good", "good", "good"]
    assert world.host.current == max(world.host.releases())


@pytest.mark.slow
@pytest.mark.ci
def test_of_three_hosts_the_second_refuses_so_the_first_goes_back_and_the_third_is_not_touched(
    make_world: Callable[..., World],
) -> None:
    world = make_world(hosts=3)
    before = world.host.current
    (world.hosts[1].folder / "etc/sandbox/refuse").touch()
    world.project.change(
        "service/web/api/health.py", "        found: dict[str, Any] = {}\n", REFUSES_WHERE_TOLD, "picky"
    )

    said = world.project.fab("deploy", code=1, seconds=500)

    assert "refused on purpose" in said
    assert [host.current for host in world.hosts] == [before] * 3
    phases = {
        host: [line.split()[1] for line in said.splitlines() if line.startswith(host.address)] for host in world.hosts
    }
    assert phases[world.hosts[0]][-5:] == ["switch", "reload", "verify", "back", "cleanup"]
    assert phases[world.hosts[2]][-2:] == ["warm", "cleanup"]
    assert all("bad" in host.releases().values() for host in world.hosts)
    assert all(world.runs_a_task(host) for host in world.hosts)
