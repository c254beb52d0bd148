"""One folder of wheels a session, and a yard a test."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.workspaces import record
from tests.workspaces.yard import Yard, wheelhouse

SMALL = {
    "Procfile": "web: python serve.py\ntest: echo tested\n",
    "serve.py": """
import http.server, os
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        text = f"{os.getpid()} {open('text').read()}".encode()
        self.send_response(200); self.send_header("Content-Length", str(len(text))); self.end_headers()
        self.wfile.write(text)
    def log_message(self, *_): pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Answer).serve_forever()
""",
    "text": "hello",
}


@pytest.fixture(scope="session", autouse=True)
def own_ports() -> None:
    """Two yards at once look for free ports, and neither knows what the other has found."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    setattr(record, "PORTS", record.PORTS[1000 * worker :])  # noqa: B010 - it is Final


@pytest.fixture(scope="session")
def wheels() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="sandbox-wheels-") as folder:
        yield wheelhouse(Path(folder))


@pytest.fixture
def yard(folder: Path, wheels: str) -> Iterator[Yard]:
    made = Yard(folder, wheels=wheels)
    yield made
    made.close()


@pytest.fixture
def small(folder: Path) -> Iterator[Yard]:
    """Of a project that requires nothing and has a server of its own."""
    made = Yard(folder, source=small_project(folder))
    yield made
    made.close()


def small_project(folder: Path) -> Path:
    source = folder / "small"
    source.mkdir()
    for name, text in SMALL.items():
        (source / name).write_text(text)
    return source
