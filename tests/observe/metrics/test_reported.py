"""What a real web server and real runners send to a StatsD that only reads."""

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.observe.metrics import StatsDMetrics
from service.observe.statsd import LOOK_AGAIN_SECONDS
from service.runner.gauges import Gauges
from service.store import TYPE, Pause, Store
from service.tasks import moments
from tests.observe.metrics.sink import Sink
from tests.observe.metrics.test_metrics import Lines
from tests.runner.conftest import crew, store, wire  # noqa: F401 - fixtures
from tests.runner.crew import Crew
from tests.runner.wires import FaultyWire
from tests.servers import eventually
from tests.store.test_pauses import set_aside
from tests.web.conftest import WebServer, make_server, redis_server  # noqa: F401 - fixtures


@pytest.fixture
def web(make_server: Callable[..., WebServer], sink: Sink) -> WebServer:  # noqa: F811
    server = make_server()
    server._environment |= {"STATSD_HOST": "127.0.0.1", "STATSD_PORT": str(sink.port)}
    return server.start()


def settle(web: WebServer, sink: Sink) -> None:
    """Waits until everything so far has been sent."""
    assert call(web, "GET", "/types")[0] == 200
    seen = ("sandbox.web.requests.types.GET.200", "sandbox.web.requests.health_live.GET.200")
    sink.eventually(lambda sink: [sink.counts()[name] for name in seen] == [1, 1])
    sink.datagrams.clear()


def call(server: WebServer, method: str, path: str, body: object = None) -> tuple[int, dict[str, object]]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(server.url + path, data, {"Content-Type": "application/json"}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.loads(answer.read() or b"{}")
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read() or b"{}")


def test_each_of_one_clients_requests_is_one_datagram_and_none_is_missing(web: WebServer, sink: Sink) -> None:
    settle(web, sink)
    for _ in range(50):
        assert call(web, "POST", "/tasks", {"type": "echo"})[0] == 201
    assert call(web, "POST", "/tasks/batch", [{"type": "echo"}] * 30)[0] == 201
    assert call(web, "POST", "/tasks", {"type": "no such"})[0] == 422
    assert call(web, "GET", "/tasks/" + "0" * 64)[0] == 404
    assert call(web, "GET", "/some/where/else")[0] == 404
    assert call(web, "PATCH", "/tasks")[0] == 405
    sink.eventually(lambda sink: len(sink.read()) >= 55)
    counts = sink.counts()
    odd = [datagram for datagram in sink.read() if datagram.count(b".web.requests.") != 1]
    assert odd == [], "these are not what one request tells, all of it together: does a part of it go out by itself?"
    assert len(sink.read()) == 55, f"55 requests were made, and these told: {counts}"
    assert counts["sandbox.web.requests.tasks.POST.201"] == 50
    assert counts["sandbox.web.requests.tasks.POST.422"] == 1
    assert counts["sandbox.web.requests.tasks_uid.GET.404"] == 1
    assert counts["sandbox.web.requests.unknown.GET.404"] == 1
    assert counts["sandbox.tasks.default.echo.created"] == 80
    assert counts["sandbox.web.latency.tasks.POST"] == 51
    assert counts["sandbox.web.latency_overall"] == 55


def test_requests_that_come_together_share_datagrams_and_none_is_missing(web: WebServer, sink: Sink) -> None:
    settle(web, sink)
    with ThreadPoolExecutor(16) as clients:
        answers = list(clients.map(lambda _: call(web, "POST", "/tasks", {"type": "echo"})[0], range(400)))
    assert answers == [201] * 400
    sink.eventually(lambda sink: sink.counts()["sandbox.web.latency_overall"] >= 400)
    counts = sink.counts()
    assert counts["sandbox.web.requests.tasks.POST.201"] == 400 == counts["sandbox.web.latency_overall"]
    assert counts["sandbox.tasks.default.echo.created"] == 400
    assert len(sink.read()) < 400, "each request went out by itself: StatsD.tell gathers nothing any more"


def test_a_name_that_does_not_resolve_is_looked_up_again_and_disturbs_nobody(
    make_server: Callable[..., WebServer],  # noqa: F811
) -> None:
    server = make_server(workers=1)
    server._environment |= {"STATSD_HOST": "statsd.invalid"}
    server.start()
    time.sleep(LOOK_AGAIN_SECONDS + 1)
    for _ in range(3):
        assert call(server, "GET", "/types")[0] == 200
    assert "Traceback" not in (server.home / "log" / "web.out").read_text()


def test_a_cancelled_and_a_repeated_task_are_counted_and_a_known_key_creates_nothing(
    web: WebServer, sink: Sink
) -> None:
    settle(web, sink)
    uid = call(web, "POST", "/tasks", {"type": "echo"})[1]["uid"]
    assert call(web, "DELETE", f"/tasks/{uid}")[0] == 200
    assert call(web, "DELETE", f"/tasks/{uid}")[0] == 409
    assert call(web, "POST", f"/tasks/{uid}/retry")[0] == 200
    sink.eventually(lambda sink: sink.counts()["sandbox.tasks.default.echo.requeued"])
    counts = sink.counts()
    assert counts["sandbox.tasks.default.echo.created"] == 1
    assert counts["sandbox.tasks.default.echo.cancelled"] == 1
    assert counts["sandbox.web.requests.tasks_uid.DELETE.409"] == 1


def test_a_unique_key_that_is_held_is_counted_and_what_gives_way_for_it(web: WebServer, sink: Sink) -> None:
    settle(web, sink)
    for rule, status in (("return", 201), ("return", 200), ("reject", 409), ("replace", 201)):
        wanted = {"type": "echo", "delay": 3600, "unique": {"key": "k", "on_conflict": rule}}
        assert call(web, "POST", "/tasks", wanted)[0] == status
    sink.eventually(lambda sink: sink.counts()["sandbox.tasks.default.echo.created"] == 2)
    counts = sink.counts()
    assert (counts["sandbox.tasks.default.echo.held"], counts["sandbox.tasks.default.echo.cancelled"]) == (2, 1)


@pytest.fixture
def reporting(crew: Crew, sink: Sink, monkeypatch: pytest.MonkeyPatch) -> Crew:  # noqa: F811
    monkeypatch.setenv("STATSD_HOST", "127.0.0.1")
    monkeypatch.setenv("STATSD_PORT", str(sink.port))
    return crew


def test_runners_tell_every_outcome_with_its_times(reporting: Crew, sink: Sink) -> None:
    reporting.create("echo", count=500)
    reporting.create("fail", count=3, max_attempts=2)
    reporting.start(2)
    sink.eventually(lambda sink: sink.counts()["sandbox.tasks.default.fail.failed"] == 3, 30)
    counts = sink.eventually(
        lambda sink: counts if (counts := sink.counts())["sandbox.tasks.default.echo.succeeded"] == 500 else None
    )
    assert counts["sandbox.tasks.default.echo.running"] == counts["sandbox.tasks.default.echo.waiting"] == 500
    assert counts["sandbox.tasks.default.fail.retried"] == 3
    assert counts["sandbox.tasks.default.fail.running"] == 6
    assert counts["sandbox.tasks_overall.waiting"] == 506
    waited = [number for name, number, _ in sink.values() if name == "sandbox.tasks.default.echo.waiting"]
    assert all(0 < number < 30_000 for number in waited)


def test_one_of_the_runners_tells_the_queues_every_few_seconds(reporting: Crew, sink: Sink) -> None:
    reporting.start(3)
    [uid] = reporting.create("nap", args={"seconds": 60})
    reporting.running(uid)
    reporting.create("nap", count=5, run_at="2099-01-01T00:00:00.000000Z", args={"seconds": 60})
    reporting.create("nap", count=4, queue="elsewhere", args={"seconds": 60})
    begun = time.monotonic()
    gauges = sink.eventually(
        lambda sink: found if (found := sink.gauges()).get("sandbox.queues.elsewhere.depth") == 4 else None, 20
    )
    assert gauges["sandbox.queues.default.running"] == 1
    assert gauges["sandbox.queues.default.scheduled"] == 5
    assert gauges["sandbox.queues.default.depth"] == 0
    eventually(lambda: sink.gauges()["sandbox.queues.elsewhere.oldest"] > 5, 20)
    told = [name for name, _, _ in sink.values() if name == "sandbox.queues.default.depth"]
    assert len(told) <= (time.monotonic() - begun) / 4.5 + 3


def test_each_prefix_gets_the_queues_and_gets_them_once(store: Store) -> None:  # noqa: F811
    told = {prefix: Lines(prefix) for prefix in ("host1", "host2")}
    for prefix in ("host1", "host2", "host1", "host2"):
        Gauges(store, queues=("default",), metrics=StatsDMetrics(told[prefix])).measure()  # type: ignore[arg-type]
    assert [len(lines.sent) for lines in told.values()] == [1, 1]


def test_of_types_those_are_told_that_are_paused_or_stuck(wire: FaultyWire) -> None:  # noqa: F811
    forgetful = Store(wire, known_seconds=0)
    before, after = Lines("before"), Lines("after")

    def measure(lines: Lines) -> list[str]:
        Gauges(forgetful, queues=("default",), metrics=StatsDMetrics(lines)).measure()
        return [line for sent in lines.sent for line in sent if ".types." in line]

    assert measure(before) == []
    for queue in ("default", "default", "reports"):
        set_aside(forgetful, "report.old", queue)
    forgetful.pauses.pause(TYPE, "mail.send", Pause(None, moments.stamp(time.time()), None, None))
    assert measure(after) == ["after.types.mail_send.paused:1|g", "after.types.report_old.stuck:3|g"]
