from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import RedisCluster


@pytest.fixture
def own_cluster(folder: Path) -> Iterator[RedisCluster]:
    """For one test alone: to be moved about in, or to lose a node."""
    cluster = RedisCluster(folder).start()
    yield cluster
    cluster.stop()
