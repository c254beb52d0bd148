import logging
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from service.observe.sentry import CLIENTS, reporter
from service.observe.sentry.outbox import Outbox
from service.observe.sentry.reporter import Reporter
from tests.observe.sentry.sink import MakeSink, Sink


@pytest.fixture(autouse=True)
def boxes_fall_silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Their threads outlive the test: what they would log then, the next tests would see as theirs."""
    made: list[Outbox] = []
    begin = Outbox.__init__

    def keep(self: Outbox, *words: int, **named: int) -> None:
        begin(self, *words, **named)
        made.append(self)

    monkeypatch.setattr(Outbox, "__init__", keep)
    yield
    for box in made:
        box._tell = lambda _: None  # type: ignore[method-assign]
        box._deliver = lambda first, box=box: box._forget(first) or 0.0  # type: ignore[func-returns-value,misc,method-assign]


@pytest.fixture
def make_sink() -> Iterator[MakeSink]:
    made: list[Sink] = []

    def make(*words: object, **named: object) -> Sink:
        made.append(Sink(*words, **named))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for sink in made:
        sink.stop()


@pytest.fixture
def sink(make_sink: MakeSink) -> Sink:
    return make_sink()


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def connect(client: str) -> Iterator[Callable[..., Reporter]]:
    """Makes reporters, and takes their hooks away afterwards."""
    root = logging.getLogger()
    handlers, level, hooks = root.handlers[:], root.level, (sys.excepthook, threading.excepthook)
    root.setLevel(logging.INFO)
    threading.excepthook = lambda _: None  # pytest's own would fail the test

    def make(dsn: str, **changed: object) -> Reporter:
        given: dict[str, object] = {
            "client": client, "release": "r-1", "environment": "testing", "process": "test", "packages": {"tests"},
        }  # fmt: skip
        return reporter.connect(dsn, **(given | changed))  # type: ignore[arg-type]

    yield make
    root.handlers[:] = handlers
    root.setLevel(level)
    sys.excepthook, threading.excepthook = hooks


@pytest.fixture
def errors(connect: Callable[..., Reporter], sink: Sink) -> Reporter:
    return connect(sink.dsn)
