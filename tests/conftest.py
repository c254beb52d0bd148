"""Real Redis servers, started once a session, emptied between tests."""

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import pytest

from service.store import SCRIPTS, Store
from service.store.connection import connect
from tests.servers import DEBIAN, EMBEDDED, RedisCluster, RedisServer

HERE = Path(__file__).parent
KINDS = {"embedded": (EMBEDDED,), "redis-server": (DEBIAN,), "both": (EMBEDDED, DEBIAN)}
ON_BOTH = ("store",)  # what asks Redis itself; all else asks the store
LONG = ("deploy", "system", "workspaces")  # packages whose tests take seconds, and minutes


def pytest_configure() -> None:
    # Who starts the tests in the background of a script has Ctrl-C ignored, and what they start would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--redis", choices=sorted(KINDS), help="which Redis all is tested on")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "server_kind" in metafunc.fixturenames:
        package = _package(metafunc.definition)
        chosen = metafunc.config.getoption("--redis") or ("both" if package in ON_BOTH else "embedded")
        metafunc.parametrize("server_kind", KINDS[chosen], scope="session")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Who works beside others begins with long tests: at the end, when one takes what another has left, it is little.

    xdist cuts the list in as many parts as it has workers. A worker that is through takes the end of another's part.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers == 1:
        return
    long = {name: [item for item in items if _package(item) == name] for name in LONG}
    short = iter([item for item in items if _package(item) not in LONG])
    order: list[pytest.Item] = []
    for number in range(workers):
        size = (len(items) - len(order)) // (workers - number)
        first = [item for name in LONG[number::workers] for item in long[name]]
        first.sort(key=lambda item: item.get_closest_marker("slow") is None)
        order += [*first, *islice(short, max(0, size - len(first)))]
    items[:] = [*order, *short]


def _package(item: pytest.Item) -> str:
    return item.path.relative_to(HERE).parts[0]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a path short enough for unix sockets."""
    with _folder() as path:
        yield path


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="sandbox-") as path:
        yield Path(path)


@pytest.fixture(scope="session")
def running_server(server_kind: str) -> Iterator[RedisServer]:
    if server_kind == DEBIAN and shutil.which(DEBIAN) is None:
        pytest.skip(f"{DEBIAN} is not installed; `apt-get install {DEBIAN}` does it")
    with _folder() as folder:
        server = RedisServer(folder, server_kind).start()
        yield server
        server.stop()


@pytest.fixture
def server(running_server: RedisServer) -> RedisServer:
    """An empty server, shared with other tests: not to be killed."""
    with running_server.client() as client:
        client.flushall()
        client.config_resetstat()
    return running_server


@pytest.fixture
def store(server: RedisServer) -> Iterator[Store]:
    store = Store(connect(server.url, SCRIPTS))
    yield store
    store.close()


@pytest.fixture
def own_server(folder: Path) -> Iterator[RedisServer]:
    """The embedded server, for one test alone: to be killed, frozen or filled."""
    server = RedisServer(folder).start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def running_cluster() -> Iterator[RedisCluster]:
    with _folder() as folder:
        cluster = RedisCluster(folder).start()
        yield cluster
        cluster.stop()


@pytest.fixture
def cluster(running_cluster: RedisCluster) -> RedisCluster:
    """An empty cluster, shared with other tests: not to be killed."""
    for node in running_cluster.nodes:
        node.client().flushall()
    return running_cluster
