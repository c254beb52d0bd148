"""What is said of a host that is not set up, or cannot be."""

from collections.abc import Callable

from tests.deploy.world import World

Make = Callable[..., World]


def test_a_host_that_is_not_set_up_is_told_of_in_words(make_bare: Make) -> None:
    world = make_bare()
    assert "current none, serving none" in world.project.fab("status", code=1)
    for words in (["deploy"], ["logs"], ["logs", "--follow"]):
        said = world.project.fab(*words, code=1)
        assert "is not set up: fab STAGE setup" in said and "b'" not in said


def test_a_python_that_the_host_lacks_or_the_service_may_not_start_is_named(make_bare: Make) -> None:
    world = make_bare()
    world.project.stage(world.hosts, extra='python = "/usr/bin/python3.99"\n')
    for command in ("setup", "status"):
        assert "there is no /usr/bin/python3.99 here; `python` in" in world.project.fab(command, code=1)
    assert world.host.sh("getent passwd sandbox", check=False) == ""

    world.host.sh("mkdir -m 700 /srv/closed && ln -s /usr/bin/python3 /srv/closed/python")
    world.project.stage(world.hosts, extra='python = "/srv/closed/python"\n')
    assert "the user sandbox cannot start /srv/closed/python" in world.project.fab("setup", code=1)
