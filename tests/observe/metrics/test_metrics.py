"""Names and numbers: what StatsD gets about requests, tasks, queues and processes."""

import re
import sys
from collections import Counter
from configparser import ConfigParser
from pathlib import Path
from subprocess import run

import pytest

from service.observe import metrics
from service.observe.metrics import Metrics, StatsDMetrics, clean
from service.observe.statsd import LARGEST_BYTES, StatsD
from service.store import Backlog
from service.supervise.observer.scales import Weight
from service.tasks import moments, transitions
from service.tasks.document import NULL, QUEUED, Task, TaskError
from tests.observe.metrics.graphite import CONF

ENTRY = "1000000000000-0"  # queued at that many milliseconds


class Lines(StatsD):
    """A StatsD that keeps what is sent together, as lines, however much it is."""

    def __init__(self, prefix: str = "x", largest: int = sys.maxsize) -> None:
        self._prefix = prefix
        self._maxudpsize = largest + 1
        self._later = None
        self._told = []
        self.sent: list[list[str]] = []

    def _send(self, text: str) -> None:
        self.sent.append(text.split("\n"))


@pytest.fixture
def lines() -> Lines:
    return Lines("my.app")


@pytest.fixture
def told(lines: Lines) -> StatsDMetrics:
    return StatsDMetrics(lines)


def new(type: str = "echo", queue: str = "default") -> Task:
    return Task(uid="0" * 64, type=type, queue=queue, status=QUEUED, created_at=moments.stamp(1e9))


def succeeded(begun: float = 1e9 + 0.25, seconds: float = 0.5, **fields: str) -> Task:
    return transitions.succeeded(new(**fields), NULL, moments.stamp(begun), moments.stamp(begun + seconds), seconds)


def test_a_request_is_counted_by_route_method_and_status_and_timed_by_route_and_over_all(
    told: StatsDMetrics, lines: Lines
) -> None:
    told.request("/tasks/<uid>", "GET", "200", 0.012345, waited=False, event="", about=())
    assert lines.sent == [
        [
            "my.app.web.requests.tasks_uid.GET.200:1|c",
            "my.app.web.latency.tasks_uid.GET:12.3|ms",
            "my.app.web.latency_overall:12.3|ms",
        ]
    ]


def test_a_client_that_wanted_to_wait_does_not_count_as_slow(told: StatsDMetrics, lines: Lines) -> None:
    told.request("/tasks/<uid>", "GET", "200", 20.0, waited=True, event="", about=())
    assert lines.sent == [["my.app.web.requests.tasks_uid.GET.200:1|c", "my.app.web.waited.tasks_uid.GET:20000|ms"]]


def test_a_method_that_a_client_made_up_makes_no_new_name(told: StatsDMetrics, lines: Lines) -> None:
    told.request("unknown", "BREW", "405", 0.001, waited=False, event="", about=())
    assert lines.sent[0][0] == "my.app.web.requests.unknown.other.405:1|c"


def test_created_tasks_are_counted_with_their_request(told: StatsDMetrics, lines: Lines) -> None:
    batch = [new(), new("a.b"), new(), new(queue="slow.one")]
    told.request("/tasks/batch", "POST", "201", 0.001, waited=False, event="created", about=batch)
    assert lines.sent[0][3:] == [
        "my.app.tasks.default.echo.created:2|c",
        "my.app.tasks.default.a_b.created:1|c",
        "my.app.tasks.slow_one.echo.created:1|c",
    ]


def test_an_act_on_many_tasks_tells_how_many_of_each_type(told: StatsDMetrics, lines: Lines) -> None:
    told.changed("requeued", [new(), new(), new()])
    assert lines.sent == [["my.app.tasks.default.echo.requeued:3|c"]]


def test_a_batch_of_outcomes_tells_events_and_how_long_each_waited_and_ran(told: StatsDMetrics, lines: Lines) -> None:
    error = TaskError(type="E", message="m")
    failed = transitions.failed(new(), error, moments.stamp(1e9 + 1), moments.stamp(1e9 + 3), 2.0)
    retried = transitions.retried(new("a.b"), error, moments.stamp(1e9 + 1), 0.001, moments.stamp(1e9 + 9))
    told.outcomes([succeeded(), failed, retried], [ENTRY, ENTRY, ENTRY])
    assert lines.sent == [
        [
            "my.app.tasks.default.echo.succeeded:1|c",
            "my.app.tasks.default.echo.failed:1|c",
            "my.app.tasks.default.a_b.retried:1|c",
            "my.app.tasks.default.echo.running:500|ms:2000|ms",
            "my.app.tasks.default.a_b.running:1|ms",
            "my.app.tasks.default.echo.waiting:250|ms:1000|ms",
            "my.app.tasks_overall.waiting:250|ms:1000|ms:1000|ms",
            "my.app.tasks.default.a_b.waiting:1000|ms",
        ]
    ]


def test_an_attempt_that_was_handed_back_or_never_began_has_no_times(told: StatsDMetrics, lines: Lines) -> None:
    crashed = transitions.crashed_for_good(new(), TaskError(type="Crashed", message=""), moments.stamp(1e9))
    told.outcomes([transitions.handed_back(new(), ran=True), crashed], ["", ""])
    assert lines.sent == [["my.app.tasks.default.echo.returned:1|c", "my.app.tasks.default.echo.failed:1|c"]]


def test_a_clock_that_runs_behind_redis_makes_no_negative_time(told: StatsDMetrics, lines: Lines) -> None:
    told.outcomes([succeeded(begun=1e9 - 5)], [ENTRY])
    assert "my.app.tasks_overall.waiting:0|ms" in lines.sent[0]


def test_times_are_plain_decimals_whatever_their_size(told: StatsDMetrics, lines: Lines) -> None:
    for seconds in (1.234567, 0.0123456, 0.000_001, 0.0, 123_456.789):
        told.request("/x", "GET", "200", seconds, waited=True, event="", about=())
    assert [line[1].partition(":")[2] for line in lines.sent] == [
        "1235|ms",
        "12.3|ms",
        "0.001|ms",
        "0|ms",
        "123456789|ms",
    ]


def datagrams_of(batch: list[Task]) -> list[str]:
    lines = Lines("my.app", LARGEST_BYTES)
    StatsDMetrics(lines).outcomes(batch, [ENTRY] * len(batch))
    return ["\n".join(datagram) for datagram in lines.sent]


TIMERS = (
    "my.app.tasks.default.echo.running", "my.app.tasks.default.echo.waiting", "my.app.tasks_overall.waiting",
)  # fmt: skip


def times_in(datagrams: list[str]) -> Counter[str]:
    """How many values each timer has."""
    counts: Counter[str] = Counter()
    for line in "\n".join(datagrams).split("\n"):
        counts[line.partition(":")[0]] += line.count("|ms")
    return +counts


@pytest.mark.parametrize("unit", [0.000_123_456, 0.001_234_567, 0.123_456_7, 12.345_678_9])
def test_the_largest_batch_fits_into_two_datagrams(unit: float) -> None:
    batch = [succeeded(begun=1e9 + number * unit, seconds=number * unit) for number in range(64)]
    datagrams = datagrams_of(batch)
    sizes = [len(datagram) for datagram in datagrams]
    assert len(datagrams) <= 2, f"{sizes} bytes: StatsDMetrics.outcomes has more, or longer, lines for a batch"
    assert times_in(datagrams) == dict.fromkeys(TIMERS, 64), "a timer of outcomes came, or went: put it into TIMERS"


def test_a_thousand_outcomes_of_the_longest_names_are_split_and_none_is_lost() -> None:
    batch = [succeeded(begun=1e9 + 123.456, type="t" * 100, queue="q" * 64) for _ in range(1000)]
    datagrams = datagrams_of(batch)
    sizes = [len(datagram) for datagram in datagrams]
    assert max(sizes) <= LARGEST_BYTES, f"{sizes} bytes, of which StatsD takes {LARGEST_BYTES} at a time"
    told = sum(datagram.count("|ms") for datagram in datagrams)
    assert told == len(TIMERS) * 1000, f"{told} times of 1000 outcomes, of which each has {len(TIMERS)}"


def test_queues_and_processes_are_gauges(told: StatsDMetrics, lines: Lines) -> None:
    told.backlog({"default": Backlog(depth=1_000_000, running=2, scheduled=3, oldest=4.5)})
    told.limits({"per.customer": 4})
    told.types(["mail.send"], {"report.old": 7})
    told.weights({"sandbox": Weight(number=3, cpu=12.5, memory=140_000_000_000, descriptors=40)})
    assert lines.sent == [
        [
            "my.app.queues.default.depth:1000000|g",
            "my.app.queues.default.running:2|g",
            "my.app.queues.default.scheduled:3|g",
            "my.app.queues.default.oldest:4.5|g",
            "my.app.queues.default.paused:0|g",
        ],
        ["my.app.limits.per_customer.waiting:4|g"],
        ["my.app.types.mail_send.paused:1|g", "my.app.types.report_old.stuck:7|g"],
        [
            "my.app.processes.sandbox.number:3|g",
            "my.app.processes.sandbox.cpu:12.5|g",
            "my.app.processes.sandbox.memory:140000000000|g",
            "my.app.processes.sandbox.descriptors:40|g",
        ],
    ]


def test_events_of_processes_are_counters(told: StatsDMetrics, lines: Lines) -> None:
    told.process_event("sandbox-runner", "spawned")
    assert lines.sent == [["my.app.processes.sandbox-runner.spawned:1|c"]]


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        ("a.b", "a_b"),
        ("a:1|c\nb", "a_1_c_b"),
        ("/tasks/<uid>/retry", "tasks_uid_retry"),
        ("/", "root"),
        ("", "root"),
        ("émile", "mile"),
        ("a@b#c;d", "a_b_c_d"),
    ],
)
def test_a_name_holds_nothing_that_statsd_or_graphite_would_read_otherwise(name: str, cleaned: str) -> None:
    assert clean(name) == cleaned


def test_without_a_host_nothing_is_sent_loaded_or_started() -> None:
    nobody = metrics.connect("", 8125, "x")
    assert type(nobody) is Metrics and not nobody.wanted
    nobody.outcomes([succeeded()], [ENTRY])
    nobody.request("/", "GET", "200", 1.0, waited=False, event="", about=())
    code = (
        "import sys, threading\nfrom service.observe import metrics\nmetrics.connect('', 1, 'x')\n"
        "assert 'service.observe.statsd' not in sys.modules and threading.active_count() == 1"
    )
    assert run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("stats.counters.x.count", "sum"), ("stats.timers.x.count_95", "sum"), ("stats.timers.x.sum_95", "sum"),
        ("stats.timers.x.sum_squares_99", "sum"), ("stats.timers.x.lower_5", "min"), ("stats.timers.x.upper_99", "max"),
        ("stats.timers.x.mean_95", "average"), ("stats.timers.x.count_ps", "average"), ("stats.gauges.x.depth", "last"),
    ],
)  # fmt: skip
def test_a_number_that_grows_old_stays_what_it_was(name: str, method: str) -> None:
    conf = ConfigParser(interpolation=None)
    conf.read(CONF / "storage-aggregation.conf")
    first = next(section for section in conf.values() if re.search(section.get("pattern", "$^"), name))
    assert first["aggregationMethod"] == method
