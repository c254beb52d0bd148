from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.system.instance import Instance


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
