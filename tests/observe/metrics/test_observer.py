"""What StatsD and graphite-web get about a real circusd and its processes."""

import base64
import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import psutil
import pytest
import zmq

from service.observe.metrics import StatsDMetrics
from service.supervise.observer import events as observers
from service.supervise.observer import graphite as graphite_web
from service.supervise.observer.events import Observer
from service.supervise.observer.graphite import Graphite, GraphiteUnavailable
from service.supervise.observer.scales import Scales, Weight
from tests.http_server import Handler, HttpServer
from tests.observe.metrics.sink import Sink
from tests.observe.metrics.test_metrics import Lines
from tests.servers import eventually
from tests.system.conftest import make_instance  # noqa: F401 - a fixture
from tests.system.instance import SANDBOX, Instance


@pytest.fixture
def observed(make_instance: Callable[..., Instance], sink: Sink) -> Instance:  # noqa: F811
    return make_instance(STATSD_HOST="127.0.0.1", STATSD_PORT=str(sink.port)).started()


def pids(instance: Instance, part: str) -> list[int]:
    return [process.pid for process in instance.processes() if part in process.command]


def test_a_real_service_tells_what_its_processes_weigh_and_what_becomes_of_them(observed: Instance, sink: Sink) -> None:
    def weighed(sink: Sink) -> dict[str, float] | None:
        """After two weighings: a share of the processor is a difference."""
        return gauges if (gauges := sink.gauges()).get("sandbox.processes.sandbox.cpu") else None

    gauges = sink.eventually(weighed, 20)  # every 5 s; a start does not wait for the observer
    assert gauges["sandbox.processes.sandbox.number"] == 3  # gunicorn's arbiter and its two workers
    assert gauges["sandbox.processes.sandbox-runner.number"] == 2
    assert gauges["sandbox.processes.redis.number"] == 1 == gauges["sandbox.processes.redis-sync.number"]
    assert 50e6 < gauges["sandbox.processes.sandbox.memory"] < 1e9
    assert gauges["sandbox.processes.sandbox.descriptors"] > 10
    sink.eventually(lambda sink: "sandbox.queues.default.depth" in sink.gauges())

    runners = pids(observed, "service.cli runner")
    sink.datagrams.clear()
    os.kill(runners[0], signal.SIGKILL)
    sink.eventually(lambda sink: sink.counts()["sandbox.processes.sandbox-runner.spawned"] == 1)
    assert sink.counts()["sandbox.processes.sandbox-runner.reaped"] == 1
    observed.circusctl("incr", "sandbox-runner", "1")
    sink.eventually(lambda sink: sink.gauges().get("sandbox.processes.sandbox-runner.number") == 3, 20)
    assert observed.stop() == 0
    observed.is_gone()
    assert sink.counts()["sandbox.processes.redis.reaped"] == 1, "the observer stops last"


def test_a_start_is_marked_and_what_it_started_is_counted(
    make_instance: Callable[..., Instance],  # noqa: F811
    sink: Sink,
    graphite: Any,
) -> None:
    settings = {"STATSD_HOST": "localhost", "STATSD_PORT": str(sink.port), "GRAPHITE_URL": graphite.url}
    make_instance(**settings).started()
    wanted = {"sandbox": 1, "sandbox-runner": 2, "redis": 1, "redis-sync": 1, "observer": 1}

    def spawned() -> dict[str, int]:
        return {watcher: sink.counts()[f"sandbox.processes.{watcher}.spawned"] for watcher in wanted}

    eventually(lambda: spawned() == wanted, 20)
    assert sink.counts()["sandbox.processes.circusd.started"] == 1
    [(_, _, body)] = eventually(lambda: graphite.got)
    assert json.loads(body)["tags"] == ["sandbox", "started"]


def test_an_observer_that_was_started_again_counts_nothing_twice(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observers, "START_SECONDS", 0)
    words: dict[str, Any] = {"events": "", "control": "", "graphite": None, "refused": lambda *_: None, "release": ""}
    observer = Observer(metrics=StatsDMetrics(lines), **words)
    observer._begin(os.getpid())
    observer._count({"sandbox": [1, 2]})
    assert lines.sent == []
    observer._count({"sandbox": [1, 2, 3]})
    observer._tell("sandbox", "spawn", {"process_pid": 3})
    assert lines.sent == [["x.processes.sandbox.spawned:1|c"]]


def test_a_pid_that_is_not_listed_any_more_may_come_again(lines: Lines) -> None:
    words: dict[str, Any] = {"events": "", "control": "", "graphite": None, "refused": lambda *_: None, "release": ""}
    observer = Observer(metrics=StatsDMetrics(lines), **words)
    observer._tell("sandbox", "spawn", {"process_pid": 1})
    observer._tell("sandbox", "spawn", {"process_pid": 2})  # on trial: circusd lists it after it was accepted
    for listed in ([1], [1], [2], [1, 2]):
        observer._count({"sandbox": listed})
    assert lines.sent == [["x.processes.sandbox.spawned:1|c"]] * 3


def test_the_observer_ends_with_a_supervisor_that_was_killed(observed: Instance, sink: Sink) -> None:
    [observer] = [process for process in observed.processes() if "service.cli observer" in process.command]
    os.kill(observed.pid, signal.SIGKILL)
    eventually(lambda: not observer.alive, 10)


def test_without_anybody_to_be_told_there_is_no_observer(
    make_instance: Callable[..., Instance],  # noqa: F811
) -> None:
    instance = make_instance().started()
    assert pids(instance, "service.cli observer") == []
    assert instance.stop() == 0


class Publisher:
    """circusd's side of its events."""

    def __init__(self, endpoint: str) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PUB)
        self._socket.bind(endpoint)

    def say(self, watcher: str, event: str, **facts: Any) -> None:
        self._socket.send_multipart([f"watcher.{watcher}.{event}".encode(), json.dumps(facts).encode()])

    def say_nonsense(self) -> None:
        self._socket.send_multipart([b"watcher.sandbox.reloaded", b"{not json"])

    def close(self) -> None:
        self._context.destroy(linger=0)


class Web(HttpServer):
    """A graphite-web that keeps what it gets, and answers with `status`."""

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.status = 200
        self.location = ""
        web = self

        class Answer(Handler):
            def do_GET(self) -> None:
                web.got.append((self.path, dict(self.headers), b""))
                self.send_error(404)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                web.got.append((self.path, dict(self.headers), body))
                self.send_response(web.status)
                if web.location:
                    self.send_header("Location", web.location)
                self.end_headers()
                self.wfile.write(b'{"success": true}')

        super().__init__(Answer)
        self.url = f"http://user:p%40ss@127.0.0.1:{self.port}"


@pytest.fixture
def graphite() -> Iterator[Web]:
    web = Web()
    yield web
    web.close()


@pytest.fixture
def publisher(folder: Any) -> Iterator[Publisher]:
    publisher = Publisher(f"ipc://{folder}/e")
    yield publisher
    publisher.close()


@pytest.fixture
def lines() -> Lines:
    return Lines()


@pytest.fixture
def refusals(
    folder: Any, publisher: Publisher, graphite: Web, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[Any]]:
    """An observer at work, and the refused reloads that it was told of."""
    told: list[Any] = []
    observer = Observer(
        events=f"ipc://{folder}/e",
        control=f"ipc://{folder}/nobody",
        metrics=StatsDMetrics(lines),
        graphite=Graphite(graphite.url),
        refused=lambda *facts: told.append(facts),
        release="/srv/releases/1",
    )
    observer._weigh_at = float("inf")
    monkeypatch.setattr(observers, "START_SECONDS", 0)
    thread = threading.Thread(target=observer.run)
    thread.start()

    def subscribed() -> bool:
        publisher.say("first", "spawn")
        return bool(lines.sent)

    eventually(subscribed)
    yield told
    observer.stop()
    thread.join()


def test_reloads_are_counted_and_drawn_into_graphs(
    refusals: list[Any], publisher: Publisher, graphite: Web, lines: Lines
) -> None:
    publisher.say_nonsense()
    publisher.say("sandbox", "reloaded", release="/srv/releases/7")
    publisher.say("sandbox", "throttled", pause=2, crashes=3)
    eventually(lambda: ["x.processes.sandbox.throttled:1|c"] in lines.sent)
    assert ["x.processes.sandbox.reloaded:1|c"] in lines.sent
    [(path, headers, body)] = eventually(lambda: graphite.got)
    assert path == "/events/" and headers["Authorization"] == "Basic dXNlcjpwQHNz"
    assert json.loads(body) == {
        "what": "sandbox reloaded",
        "tags": ["sandbox", "reloaded"],
        "data": "/srv/releases/7",
    }
    assert refusals == []


def test_a_refused_reload_is_handed_on_with_all_that_is_known(
    refusals: list[Any], publisher: Publisher, graphite: Web, lines: Lines
) -> None:
    graphite.status = 503  # nobody's problem
    facts = {"reason": "it does not import", "release": "/r/8", "seconds": 1.5, "traceback": "Traceback …"}
    publisher.say("sandbox", "reload_refused", **facts)
    eventually(lambda: refusals)
    assert refusals == [("sandbox", facts)]
    assert ["x.processes.sandbox.refused:1|c"] in lines.sent


@pytest.mark.parametrize(
    "url", ["http://u:p/hunter2@127.0.0.1:1", "http://u:p#hunter2@127.0.0.1:1", "u:hunter2@127.0.0.1"]
)
def test_no_password_is_shown_however_it_is_written(url: str) -> None:
    with pytest.raises(GraphiteUnavailable) as error:
        Graphite(url).event("what", [], "")
    assert "hunter2" not in str(error.value)


def test_a_password_with_a_slash_arrives(graphite: Web) -> None:
    Graphite(graphite.url.replace("p%40ss", "p/@#ss")).event("what", [], "")
    assert graphite.got[0][1]["Authorization"] == f"Basic {base64.b64encode(b'user:p/@#ss').decode()}"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_gets_no_password_and_is_told(graphite: Web, status: int) -> None:
    graphite.status, graphite.location = status, f"{graphite.url}/elsewhere"
    with pytest.raises(
        GraphiteUnavailable, match=r"redirects to 127.0.0.1:\d+/elsewhere, which is not followed"
    ) as told:
        Graphite(graphite.url).event("what", [], "")
    assert [path for path, _, _ in graphite.got] == ["/events/"]
    assert "p%40ss" not in str(told.value)


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\n\r\n"], ids=["head", "body"])
def test_a_server_that_drips_is_left(head: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphite_web, "LONGEST_SECONDS", 0.5)
    over = threading.Event()

    def drip(listener: socket.socket) -> None:
        client, _ = listener.accept()
        with client:
            client.sendall(head)
            for _ in range(100):
                if over.wait(0.05):
                    return
                client.sendall(b"x")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        dripping = threading.Thread(target=drip, args=(listener,))
        dripping.start()
        with pytest.raises(GraphiteUnavailable, match="it has not answered"):
            Graphite(f"http://127.0.0.1:{listener.getsockname()[1]}").event("what", [], "")
        over.set()
        dripping.join()


def test_dashboards_are_loaded_where_graphite_url_says_and_no_argument_holds_the_password(
    make_instance: Callable[..., Instance],  # noqa: F811
    graphite: Web,
) -> None:
    done = make_instance(GRAPHITE_URL=graphite.url).run(*SANDBOX, "dashboards", "load")
    assert done.returncode == 0, done.stderr
    assert [path for path, _, _ in graphite.got] == [f"/dashboard/save/sandbox-{name}" for name in ("tasks", "web")]
    assert graphite.got[0][1]["Authorization"] == "Basic dXNlcjpwQHNz"
    assert "p%40ss" not in done.stdout + done.stderr


def test_dashboards_that_are_loaded_nowhere_say_what_is_missing(
    make_instance: Callable[..., Instance],  # noqa: F811
) -> None:
    done = make_instance().run(*SANDBOX, "dashboards", "load")
    assert done.returncode != 0 and "GRAPHITE_URL is not set" in done.stderr


def test_processor_time_is_that_since_the_last_weighing() -> None:
    scales = Scales()
    me = {"me": [os.getpid()], "nobody": [2**22 + 1]}
    scales.weigh(me)
    until = psutil.Process().cpu_times().user + 0.3
    while psutil.Process().cpu_times().user < until:
        sum(range(10_000))
    weighed = scales.weigh(me)
    assert weighed["nobody"] == Weight()
    assert weighed["me"].number >= 1 and weighed["me"].cpu > 5
    assert weighed["me"].memory > 10e6 and weighed["me"].descriptors >= 3


def test_the_table_of_processes_is_read_once_however_many_leaders_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []
    pids = psutil._psplatform.pids
    monkeypatch.setattr(psutil._psplatform, "pids", lambda: reads.append(1) or pids())
    weighed = Scales().weigh({"me": [os.getpid()] * 64})
    assert weighed["me"].number >= 64
    assert len(reads) == 1


def test_every_event_that_has_a_metric_has_a_name_in_the_past() -> None:
    assert set(observers.EVENTS.values()) == {"spawned", "reaped", "reloaded", "refused", "throttled"}
