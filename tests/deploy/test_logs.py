"""`fab STAGE logs`, once and as they grow."""

import signal
from collections.abc import Callable

import pytest

from tests.deploy.world import World
from tests.servers import eventually


@pytest.mark.slow
def test_logs_are_followed_until_they_are_interrupted(make_world: Callable[..., World]) -> None:
    world = make_world(hosts=2)
    assert all(eventually(lambda host=host: world.serves(host), 60) for host in world.hosts)  # type: ignore[misc]
    output = world.folder / "output"
    fab = world.project.start("logs", "--follow", "--lines", "1", output=output)
    eventually(lambda: all(f"{host.address} runner.log: " in output.read_text() for host in world.hosts), 60)
    for host in world.hosts:
        log = host.folder / "var/log/sandbox/runner.log"
        log.rename(log.with_suffix(".old"))  # as when a log is renewed
        log.write_text("news\n")
    eventually(lambda: output.read_text().count("runner.log: news") == 2, 60)
    fab.send_signal(signal.SIGINT)
    fab.wait(30)
    assert "Traceback" not in output.read_text()
    eventually(lambda: not any(host.runs("tail") for host in world.hosts), 30)


@pytest.mark.slow
def test_a_link_in_the_place_of_a_log_shows_no_file_of_roots(make_world: Callable[..., World]) -> None:
    world = make_world()
    log = world.host.folder / "var/log/sandbox/runner.log"
    log.unlink()
    log.symlink_to("/etc/shadow")
    shown = world.project.fab("logs", "--lines", "1", code=1)
    assert "Permission denied" in shown
    assert "root:" not in shown
    output = world.folder / "output"
    fab = world.project.start("logs", "--follow", "--lines", "99", output=output)
    eventually(lambda: " circus.log: " in output.read_text(), 60)
    fab.send_signal(signal.SIGINT)
    fab.wait(30)
    assert "root:" not in output.read_text()
