from collections.abc import Iterator

import pytest

from tests.observe.metrics.sink import Sink


@pytest.fixture
def sink() -> Iterator[Sink]:
    sink = Sink()
    yield sink
    sink.close()
