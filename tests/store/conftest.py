from collections.abc import Iterator
from pathlib import Path

import pytest

from service.store import SCRIPTS, Store
from service.store.connection import connect
from tests.servers import RedisCluster, RedisServer


@pytest.fixture
def own_cluster(folder: Path) -> Iterator[RedisCluster]:
    """For one test alone: to be moved about in, or to lose a node."""
    cluster = RedisCluster(folder).start()
    yield cluster
    cluster.stop()


@pytest.fixture(params=["one server", "cluster"])
def partitioned(request: pytest.FixtureRequest, server: RedisServer, cluster: RedisCluster) -> Iterator[Store]:
    """Four partitions, on one server or spread over a cluster."""
    url = cluster.url if request.param == "cluster" else server.url
    store = Store(connect(url, SCRIPTS), partitions=4)
    yield store
    store.close()
