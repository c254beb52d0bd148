"""Hosts whose glibc is older than what wheels were made for."""

import pytest

from rollout import glibc
from rollout.errors import DeployError
from tests.deploy.world import World

OLD = "/home/old/python3"
# The host's Python, but for what it says of its glibc.
PYTHON = """#!/bin/bash
[ "$1 $2 $3" = "-I -B -c" ] || exec /usr/bin/python3 "$@"
text=$4
shift 4
exec /usr/bin/python3 -I -B -c "import os; os.confstr = lambda _: 'glibc 2.5'
$text" "$@"
"""


@pytest.mark.parametrize(
    ("wheel", "least"),
    [
        ("flask-3.1.3-py3-none-any.whl", (0, 0)),
        ("fast-1.0-cp311-cp311-manylinux_2_34_x86_64.whl", (2, 34)),
        ("fast-1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.manylinux_2_28_x86_64.whl", (2, 17)),
        ("fast-1.0-cp311-cp311-manylinux1_x86_64.whl", (2, 5)),
        ("fast-1.0-cp311-cp311-manylinux2010_x86_64.whl", (2, 12)),
        ("fast-1.0-cp311-cp311-manylinux2014_aarch64.whl", (2, 17)),
        ("fast-1.0-cp311-cp311-linux_x86_64.whl", (2, 41)),
    ],
)
def test_the_name_of_a_wheel_or_who_made_it_tells_which_glibc_it_needs(wheel: str, least: tuple[int, int]) -> None:
    assert glibc.needed(wheel, (2, 41)) == least


def test_every_wheel_that_a_host_is_too_old_for_is_named() -> None:
    wheels = [
        "b-1.0-cp311-cp311-linux_x86_64.whl",
        "a-1.0-cp311-cp311-manylinux_2_36_x86_64.whl",
        "c-1.0-py3-none-any.whl",
        "d-1.0-cp311-cp311-manylinux_2_9_x86_64.whl",  # older than 2.31, though not as a text
    ]
    with pytest.raises(DeployError) as told:
        glibc.refuse_older("a.example.com", "glibc 2.31", wheels, "glibc 2.41")
    assert "a.example.com has glibc 2.31, which is too old for a-1.0-" in str(told.value)
    assert "_2_36_x86_64.whl (glibc 2.36), b-1.0-cp311-cp311-linux_x86_64.whl (glibc 2.41). Deploy" in str(told.value)
    glibc.refuse_older("b", "glibc 2.41", wheels, "glibc 2.41")
    glibc.refuse_older("not of GNU", "", wheels, "glibc 2.41")


@pytest.mark.slow
def test_nothing_is_carried_to_a_host_with_an_older_glibc(world: World) -> None:
    host, release = world.host, str(world.host.current)
    (host.folder / "home/old").mkdir()
    (host.folder / "home/old/python3").write_text(PYTHON)
    host.sh(f"chmod -R a+rx /home/old; rm -rf /srv/sandbox/shared/wheels/*; {OLD} -c ''")
    world.project.stage(world.hosts, extra=f'python = "{OLD}"\n')

    for words in (
        ["deploy"],
        ["deploy", "--release", release],
        ["deploy:build"],
        ["deploy:upload"],
        ["deploy:install"],
    ):
        said = world.project.fab(*words, code=1)
        assert f"{host.address} has glibc 2.5, which is too old for " in said, words
        assert "upload " not in said and "install " not in said
    assert host.releases() == {release: "good"}
    assert host.sh("ls /srv/sandbox/shared/wheels") == ""
