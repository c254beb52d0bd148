from collections.abc import Iterator
from pathlib import Path

import pytest

from service.store import SCRIPTS, Store
from service.store.connection import connect
from tests.runner.crew import Crew
from tests.runner.wires import FaultyWire
from tests.servers import RedisServer


@pytest.fixture
def wire(server: RedisServer) -> FaultyWire:
    """It works, until the test wants it otherwise."""
    return FaultyWire(server.url)


@pytest.fixture
def store(wire: FaultyWire) -> Iterator[Store]:
    store = Store(wire, retention_seconds=600)
    yield store
    store.close()


@pytest.fixture
def mortal_server(tmp_path: Path, server_kind: str) -> Iterator[RedisServer]:
    """For one test alone: to be killed. It keeps what it has acknowledged."""
    folder = tmp_path / "r"
    folder.mkdir()
    server = RedisServer(folder, server_kind).start("--appendfsync", "always")
    yield server
    server.kill()


@pytest.fixture
def mortal_crew(mortal_server: RedisServer, tmp_path: Path) -> Iterator[Crew]:
    store = Store(connect(mortal_server.url, SCRIPTS))
    crew = Crew(tmp_path, mortal_server.url, store)
    yield crew
    crew.kill_all()
    store.close()


@pytest.fixture
def crew(server: RedisServer, store: Store, tmp_path: Path) -> Iterator[Crew]:
    crew = Crew(tmp_path, server.url, store)
    yield crew
    crew.kill_all()
