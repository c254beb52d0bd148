"""GET /metrics/history, GET /metrics, GET /runners."""

import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from service.store import SCRIPTS, Store, Tally
from service.store.connection import connect
from service.tasks import moments
from service.web.app import Web
from tests.servers import RedisServer
from tests.store.test_history import at_work, ended
from tests.store.test_pauses import set_aside

DAY = 86400


def count(store: Store, at: float, *tasks: Any) -> None:
    tally = Tally()
    tally.outcomes(at, tasks, [""] * len(tasks))
    store.history.add(f"{at}", 1, tally.take())


def history(client: FlaskClient, series: str = "", **span: float) -> Any:
    query = {"series": series} if series else {}
    query |= {name.rstrip("_"): moments.stamp(at) for name, at in span.items()}
    answer = client.get("/metrics/history", query_string=query)
    assert answer.status_code == 200, answer.json
    return answer.json


def test_without_a_series_it_says_which_there_are(client: FlaskClient, store: Store) -> None:
    assert history(client) == {"counts": [], "gauges": []}
    count(store, time.time(), ended("succeeded"))
    store.history.gauge(time.time(), {"queue:default": (1, 2, 3, 4)})
    assert history(client) == {"counts": ["all", "default/echo"], "gauges": ["queue:default"]}


def test_a_short_span_is_told_by_the_minute_with_medians_and_marks(client: FlaskClient, store: Store) -> None:
    now = time.time() // 60 * 60 - 30
    count(store, now - 600, *[ended("succeeded", ran=0.5)] * 9, ended("failed", ran=8.0))
    store.history.mark(int((now - 500) * 1e6), {"at": "x", "what": "reloaded", "watcher": "sandbox", "release": "/r"})
    told = history(client, "default/echo", from_=now - 3600, to=now)
    assert (told["series"], told["resolution"], len(told["points"])) == ("default/echo", "minute", 61)
    [point] = [each for each in told["points"] if each["succeeded"]]
    assert point["at"] == moments.stamp((now - 600) // 60 * 60)
    assert [point[name] for name in ("succeeded", "failed", "retried", "cancelled")] == [9, 1, 0, 0]
    assert point["run"]["count"] == 10 and point["run"]["mean"] == pytest.approx(1.25)
    assert 0.28 < point["run"]["median"] < 0.9 and 4 < point["run"]["p95"] < 15
    assert point["wait"] == {"count": 0, "mean": None, "median": None, "p95": None}
    assert {name: told["summary"][name] for name in ("succeeded", "failed", "run")} == {
        name: point[name] for name in ("succeeded", "failed", "run")
    }
    assert [mark["what"] for mark in told["marks"]] == ["reloaded"]
    assert history(client, "default/echo", from_=now - 100)["marks"] == []


def test_a_long_span_and_what_is_older_than_two_days_is_told_by_the_hour(client: FlaskClient, store: Store) -> None:
    now = time.time()
    count(store, now - 3 * DAY, ended("succeeded"))
    for span in ({"from_": now - 5 * DAY}, {"from_": now - 3 * DAY - 7200, "to": now - 3 * DAY + 7200}):
        told = history(client, "all", **span)
        assert (told["resolution"], told["summary"]["succeeded"]) == ("hour", 1)
        assert sum(point["succeeded"] for point in told["points"]) == 1
    assert len(history(client, "all", from_=0)["points"]) <= 31 * 24 + 1


def test_a_span_ends_before_the_minute_and_the_hour_at_which_it_ends(client: FlaskClient, store: Store) -> None:
    noon = time.time() // 3600 * 3600 - 3600
    count(store, noon - 1, ended("succeeded"))
    count(store, noon, ended("failed"))
    store.history.gauge(noon - 1, {"runners": (1, 1, 1, 1)})
    store.history.gauge(noon, {"runners": (9, 9, 9, 9)})
    for hours, points in ((1, 60), (72, 72)):
        told = history(client, "all", from_=noon - hours * 3600, to=noon)
        assert (len(told["points"]), told["summary"]["succeeded"], told["summary"]["failed"]) == (points, 1, 0)
        told = history(client, "runners", from_=noon - hours * 3600, to=noon)
        assert (len(told["points"]), told["points"][-1]["busy"]) == (points, 1)


def test_gauges_are_told_by_their_highest_in_each_minute_or_hour(client: FlaskClient, store: Store) -> None:
    minute = int(time.time()) // 60 * 60 - 120
    store.history.gauge(minute, {"queue:default": (5, 1, 0, 9.0), "runners": (1, 2, 2, 10**9)})
    store.history.gauge(minute + 15, {"queue:default": (3, 2, 0, 1.0)})
    points = history(client, "queue:default")["points"]
    [point] = [each for each in points if each["depth"] is not None]
    assert point == {"at": moments.stamp(minute), "depth": 5, "running": 2, "scheduled": 0, "oldest": 9}
    assert points[0] == {"at": points[0]["at"], "depth": None, "running": None, "scheduled": None, "oldest": None}
    [hour] = [each for each in history(client, "runners", from_=minute - 3 * DAY)["points"] if each["runners"]]
    assert (hour["lanes"], hour["busy"], hour["memory"]) == (2, 2, 10**9)


@pytest.mark.parametrize(
    "query",
    ["series=", "series=a%20b", "series=all&from=yesterday", "series=all&from=2999-01-01T00:00:00Z", "from=x&step=1"],
)
def test_a_wrong_question_is_refused(client: FlaskClient, query: str) -> None:
    assert client.get(f"/metrics/history?{query}").status_code == 422


def test_prometheus_gets_counters_histograms_and_gauges(client: FlaskClient, store: Store) -> None:
    count(store, time.time(), *[ended("succeeded", ran=0.001)] * 3, ended("failed", ran=100.0))
    client.post("/tasks", json={"type": "echo"})
    store.roster.enter(at_work("a"))
    client.put("/schedules/nightly", json={"type": "echo", "cron": "@daily"})
    answer = client.get("/metrics")
    assert answer.content_type == "text/plain; version=0.0.4; charset=utf-8"
    lines = answer.text.splitlines()
    for wanted in (
        'sandbox_attempts_total{queue="default",type="echo",end="succeeded"} 3',
        'sandbox_attempts_total{queue="default",type="echo",end="cancelled"} 0',
        'sandbox_run_seconds_bucket{queue="default",type="echo",le="5e-05"} 0',
        'sandbox_run_seconds_bucket{queue="default",type="echo",le="+Inf"} 4',
        'sandbox_run_seconds_count{queue="default",type="echo"} 4',
        'sandbox_run_seconds_sum{queue="default",type="echo"} 100.003',
        'sandbox_queue_depth{queue="default"} 1',
        "# TYPE sandbox_run_seconds histogram",
        "sandbox_runners 1",
        "sandbox_lanes_busy 1",
        'sandbox_schedule_times_total{schedule="nightly",became="missed"} 0',
    ):
        assert wanted in lines, answer.text
    buckets = [float(line.rpartition(" ")[2]) for line in lines if line.startswith("sandbox_run_seconds_bucket")]
    assert buckets == sorted(buckets)


def test_prometheus_gets_what_is_paused_or_stuck(redis_server: RedisServer, make_app: Callable[..., Web]) -> None:
    forgetful = Store(connect(redis_server.url, SCRIPTS), known_seconds=0)
    client = make_app(store=forgetful).test_client()

    def held_back() -> list[str]:
        return re.findall(r"^sandbox_(?:queue_paused|type)\S* .*", client.get("/metrics").text, re.MULTILINE)

    assert held_back() == ['sandbox_queue_paused{queue="default"} 0', 'sandbox_queue_paused{queue="reports"} 0']

    client.post("/queues/reports/pause")
    client.post("/types/echo/pause")
    set_aside(forgetful, "report.old", "default")
    set_aside(forgetful, "report.old", "other")
    assert held_back() == [
        'sandbox_queue_paused{queue="default"} 0', 'sandbox_queue_paused{queue="other"} 0',
        'sandbox_queue_paused{queue="reports"} 1', 'sandbox_type_paused{type="echo"} 1',
        'sandbox_type_stuck{type="report.old",queue="default"} 1',
        'sandbox_type_stuck{type="report.old",queue="other"} 1',
    ]  # fmt: skip
    forgetful.close()


def test_who_is_at_work(client: FlaskClient, store: Store) -> None:
    assert client.get("/runners").json == {"runners": []}
    store.roster.enter(at_work("a"))
    assert client.get("/runners").json == {
        "runners": [
            {
                "runner": "a", "host": "h", "pid": 1, "release": "/r", "started_at": at_work("a").started_at,
                "memory": 1, "queues": ["default"], "threads": 2,
                "executing": [
                    {"uid": "0" * 64, "type": "echo", "queue": "default", "since": at_work("a").started_at}
                ],
                "reads": 1,
            }
        ]
    }  # fmt: skip
