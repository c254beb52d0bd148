from collections.abc import Iterator
from pathlib import Path

import pytest

from service.store import SCRIPTS, Store
from service.wire import connect
from tests.runner.crew import Crew
from tests.servers import RedisServer


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path_factory.mktemp("redis")).start()
    yield server
    server.stop()


@pytest.fixture
def store(redis_server: RedisServer) -> Iterator[Store]:
    redis_server.client().flushall()
    store = Store(connect(redis_server.url, SCRIPTS), retention_seconds=600)
    yield store
    store.close()


@pytest.fixture
def crew(redis_server: RedisServer, store: Store, tmp_path: Path) -> Iterator[Crew]:
    crew = Crew(tmp_path, redis_server.url, store)
    yield crew
    crew.kill_all()
