from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.instance import Instance
from tests.system.releases import Releases


@pytest.fixture
def make_instance(folder: Path) -> Iterator[Callable[..., Instance]]:
    made: list[Instance] = []

    def make(name: str = "a", **variables: str) -> Instance:
        (folder / name).mkdir()
        made.append(Instance(folder / name, **variables))
        return made[-1]

    yield make
    for instance in made:
        instance.clean_up()


@pytest.fixture
def instance(make_instance: Callable[..., Instance]) -> Instance:
    return make_instance()


@pytest.fixture
def releases(folder: Path) -> Releases:
    (folder / "releases").mkdir()
    return Releases(folder / "releases")


@pytest.fixture
def released(make_instance: Callable[..., Instance], releases: Releases) -> Instance:
    """An instance of the release `one`."""
    releases.switch(releases.make("one").named("one"))
    return make_instance(SANDBOX_RELEASE=str(releases.link), SANDBOX_RELOAD="10")
