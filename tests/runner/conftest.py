from collections.abc import Iterator
from pathlib import Path

import pytest

from service.store import SCRIPTS, Store
from service.wire import connect
from tests.runner.crew import Crew
from tests.servers import RedisServer


@pytest.fixture
def store(server: RedisServer) -> Iterator[Store]:
    store = Store(connect(server.url, SCRIPTS), retention_seconds=600)
    yield store
    store.close()


@pytest.fixture
def crew(server: RedisServer, store: Store, tmp_path: Path) -> Iterator[Crew]:
    crew = Crew(tmp_path, server.url, store)
    yield crew
    crew.kill_all()
