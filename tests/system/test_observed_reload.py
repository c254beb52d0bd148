"""A reload, as those see it who are told of it: StatsD and Sentry."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.observe.metrics.sink import Sink as StatsD
from tests.observe.sentry.sink import Sink as Sentry
from tests.system.instance import Instance
from tests.system.releases import Releases


@pytest.fixture
def statsd() -> Iterator[StatsD]:
    sink = StatsD()
    yield sink
    sink.close()


@pytest.fixture
def sentry() -> Iterator[Sentry]:
    sink = Sentry()
    yield sink
    sink.stop()


def test_a_refused_reload_is_an_event_in_sentry_and_each_outcome_is_counted(
    make_instance: Callable[..., Instance], statsd: StatsD, sentry: Sentry, tmp_path: Path
) -> None:
    releases = Releases(tmp_path)
    releases.switch(releases.make("good"))
    instance = make_instance(
        SANDBOX_RELEASE=str(releases.link),
        STATSD_HOST="127.0.0.1",
        STATSD_PORT=str(statsd.port),
        SENTRY_DSN=sentry.dsn,
    ).started()
    statsd.eventually(lambda sink: "sandbox.processes.sandbox.number" in sink.gauges())

    assert instance.ask("reload", "sandbox").returncode == 0
    statsd.eventually(lambda sink: sink.counts()["sandbox.processes.sandbox.reloaded"] == 1)

    broken = releases.make("broken")
    broken.add("service/cli/wsgi.py", "import a_module_that_does_not_exist")
    releases.switch(broken)
    assert instance.ask("reload", "sandbox").returncode == 3
    statsd.eventually(lambda sink: sink.counts()["sandbox.processes.sandbox.refused"] == 1)
    [event] = [event for event in sentry.expect(1) if event["tags"].get("watcher")]
    assert event["tags"]["watcher"] == "sandbox"
    assert event["tags"]["release"] == str(broken.path)
    assert "a_module_that_does_not_exist" in event["extra"]["traceback"]
