"""The application against a real Redis; and the whole web server, for what only it can show."""

import contextlib
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from msgspec import Raw

from service.store import SCRIPTS, Change, Store
from service.store.connection import connect
from service.tasks import moments, transitions
from service.tasks.document import NULL, TaskError
from service.tasks.registry import Registry
from service.web.app import Web, create_app
from tests.servers import RedisServer, eventually, free_port
from tests.web.estate import Estate

ROOT = Path(__file__).parents[2]
QUEUES = ("default", "reports")


@pytest.fixture
def redis_server(running_server: RedisServer) -> RedisServer:
    running_server.client().flushall()
    return running_server


@pytest.fixture
def store(redis_server: RedisServer) -> Iterator[Store]:
    store = Store(connect(redis_server.url, SCRIPTS))
    yield store
    store.close()


@pytest.fixture(scope="session")
def registry() -> Registry:
    return Registry.load(["service.builtin.demo", "tests.web.types"])


@pytest.fixture
def make_app(store: Store, registry: Registry) -> Callable[..., Web]:
    def make(**changed: Any) -> Web:
        given: dict[str, Any] = {
            "store": store, "registry": registry, "queues": QUEUES, "tokens": None, "waiting_clients": 10,
        }  # fmt: skip
        return create_app(**(given | changed))

    return make


@pytest.fixture
def client(make_app: Callable[..., Web]) -> FlaskClient:
    return make_app().test_client()


@pytest.fixture
def estate(make_app: Callable[..., Web], store: Store, tmp_path: Path) -> Estate:
    return Estate(make_app, store, tmp_path)


@pytest.fixture
def finish(store: Store) -> Callable[..., None]:
    """Ends a task as a runner would."""

    def finish(uid: str, error: TaskError | None = None, result: Raw = NULL) -> None:
        found = store.read(uid)
        assert found is not None
        now = moments.stamp(1_000_000_000.0)
        if error is None:
            after = transitions.succeeded(found.task, result, now, now, 0.5)
        else:
            after = transitions.failed(found.task, error, now, now, 0.5)
        assert store.move([Change(found.text, found.task, after)]).refused == []

    return finish


class WebServer:
    """gunicorn as the service runs it, in a state folder of its own."""

    def __init__(
        self,
        home: Path,
        redis_url: str,
        configuration: Path = ROOT / "conf" / "gunicorn.py",
        workers: int = 2,
        parser: str = "auto",
        **variables: str,
    ) -> None:
        self.home = home
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._environment = os.environ | {
            "SANDBOX_HOME": str(home), "SANDBOX_WEB_WORKERS": str(workers), "REDIS_URL": redis_url,
            "PYTHONPATH": str(ROOT), "SANDBOX_TASKS": "service.builtin.demo", "SANDBOX_QUEUES": "default",
            "PYTHONWARNINGS": "default", "GUNICORN_CMD_ARGS": f"--http-parser {parser}",
        }  # fmt: skip
        for name in ("SANDBOX_TOKENS", "PYTHONDONTWRITEBYTECODE"):  # what it compiles itself stays in its memory
            self._environment.pop(name, None)
        self._environment |= variables
        self._configuration = configuration
        self._count = workers
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "WebServer":
        self.launch()
        eventually(lambda: self.status("/health/live") == 200)
        eventually(lambda: len(self.workers()) == self._count)  # it is ready when its first worker is
        return self

    def launch(self) -> subprocess.Popen[bytes]:
        words = [sys.executable, "-m", "gunicorn", "-c", str(self._configuration), "--bind", f"127.0.0.1:{self.port}"]
        self.output = self.home / "output"
        with open(self.output, "wb") as output:
            self.process = subprocess.Popen(
                words, env=self._environment, cwd=ROOT, stdout=output, stderr=output, start_new_session=True
            )
        return self.process

    def status(self, path: str) -> int:
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return 0

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def workers(self) -> list[int]:
        return [int(word) for word in Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()]

    def stop(self) -> None:
        """Asks it to end; whatever has not ended after a while is killed, and the test fails."""
        if self.process is None:
            return
        process, self.process = self.process, None
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=40)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture
def make_server(redis_server: RedisServer, tmp_path: Path) -> Iterator[Callable[..., WebServer]]:
    made: list[WebServer] = []

    def make(**given: Any) -> WebServer:
        home = tmp_path / f"home{len(made)}"
        home.mkdir()
        made.append(WebServer(home, **({"redis_url": redis_server.url} | given)))
        return made[-1]

    yield make
    for server in made:
        server.stop()


@pytest.fixture
def server(make_server: Callable[..., WebServer]) -> WebServer:
    return make_server().start()
