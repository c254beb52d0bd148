"""From the service through a real StatsD and carbon into graphite-web: what is sent is counted and drawn."""

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote

import pytest

from service.observe.metrics import StatsDMetrics
from service.observe.statsd import StatsD
from service.supervise.observer import dashboards
from service.supervise.observer import graphite as graphite_web
from tests.observe.metrics import graphite as servers
from tests.observe.metrics.everything import tell_everything
from tests.observe.metrics.graphite import CONF, Graphite
from tests.servers import eventually
from tests.system.conftest import make_instance  # noqa: F401 - a fixture
from tests.system.instance import SANDBOX, Instance

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
DASHBOARDS = [json.loads(file.read_text()) for file in sorted((CONF / "dashboards").glob("*.json"))]


@pytest.fixture(scope="module")
def graphite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Graphite]:
    if reason := servers.lacks():
        pytest.skip(reason)
    with servers.running(tmp_path_factory.mktemp("graphite")) as graphite:
        yield graphite


def shares(graphite: Graphite, prefix: str) -> dict[str, str]:
    return {"STATSD_HOST": "localhost", "STATSD_PORT": str(graphite.statsd_port), "STATSD_PREFIX": prefix}


def test_every_request_and_every_task_that_was_sent_is_counted(
    graphite: Graphite,
    make_instance: Callable[..., Instance],  # noqa: F811
) -> None:
    instance = make_instance(**shares(graphite, "counted.host1")).started()
    stats = "stats.counters.counted.host1"
    eventually(lambda: graphite.total(f"{stats}.web.requests.health_ready.GET.200.count"), 20, 0.2)
    for _ in range(200):
        instance.create("echo")
    for _ in range(20):
        status, _ = instance.call("POST", "/tasks/batch", [{"type": "echo"}] * 500)
        assert status == 201
    for _ in range(10):
        instance.create("fail")
    eventually(lambda: graphite.total(f"{stats}.tasks.default.fail.retried.count") >= 10, 20, 0.2)

    wanted = {
        f"{stats}.web.requests.tasks.POST.201.count": 210,
        f"{stats}.web.requests.tasks_batch.POST.201.count": 20,
        f"{stats}.tasks.default.echo.created.count": 10_200,
        f"{stats}.tasks.default.echo.succeeded.count": 10_200,
        f"{stats.replace('counters', 'timers')}.tasks.default.echo.waiting.count": 10_200,
        f"{stats.replace('counters', 'timers')}.tasks.default.echo.running.count": 10_200,
        f"{stats.replace('counters', 'timers')}.web.latency.tasks.POST.count": 210,
    }

    def found() -> dict[str, float]:
        return {name: graphite.total(name) for name in wanted}

    last: list[Any] = []
    eventually(lambda: last.append(found()) or last[-1] == wanted, 30, 0.5)
    assert graphite.total("stats.counters.statsd.bad_lines_seen.count") == 0
    assert graphite.render("stats.gauges.counted.host1.queues.default.depth")
    assert graphite.render("stats.gauges.counted.host1.processes.sandbox.memory")
    assert instance.stop() == 0


@pytest.fixture(scope="module")
def told(graphite: Graphite) -> str:
    """A prefix under which every metric was sent for a while."""
    sender = StatsD("127.0.0.1", graphite.statsd_port, "shown.x")
    metrics = StatsDMetrics(sender)
    eventually(lambda: sender._socket)
    for number in range(12):
        tell_everything(metrics, number)
        time.sleep(1)  # one point a second: the pictures need several
    sender.close()
    eventually(lambda: graphite.total("stats.counters.shown.x.processes.sandbox-runner.refused.count") == 1, 20)
    return "shown.x"


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: str(dashboard["name"]))
def test_every_target_of_a_dashboard_returns_data(graphite: Graphite, told: str, dashboard: dict[str, Any]) -> None:
    for encoded, parameters, _ in dashboards.state(dashboard, told)["graphs"]:
        assert parse_qs(encoded)["target"] == parameters["target"]
        for target in parameters["target"]:
            found = graphite.render(target)
            assert any(sum(points) > 0 for points in found.values()), f"{parameters['title']}: {target}: {found}"
            assert all("{" not in name for name in found)


def test_the_dashboards_are_loaded_and_loading_them_again_replaces_them(
    graphite: Graphite,
    told: str,
    make_instance: Callable[..., Instance],  # noqa: F811
) -> None:
    instance = make_instance(STATSD_PREFIX=told)
    for _ in range(2):
        done = instance.run(*SANDBOX, "dashboards", "load", graphite.url)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [f"{graphite.url}/dashboard/sandbox-{name}" for name in ("tasks", "web")]
    for dashboard in DASHBOARDS:
        state = json.loads(graphite.get(f"/dashboard/load/{dashboard['name']}"))["state"]
        assert [graph[1]["title"] for graph in state["graphs"]] == [graph["title"] for graph in dashboard["graphs"]]
        assert all(told in target for graph in state["graphs"] for target in graph[1]["target"])


def test_a_graphite_that_is_not_there_is_named(make_instance: Callable[..., Instance]) -> None:  # noqa: F811
    done = make_instance().run(*SANDBOX, "dashboards", "load", "http://127.0.0.1:1")
    assert done.returncode == 1
    assert done.stderr.startswith("sandbox: http://127.0.0.1:1/dashboard/save/sandbox-tasks cannot be reached")


def test_a_reload_is_drawn_as_an_event(graphite: Graphite) -> None:
    graphite_web.Graphite(graphite.url).event("sandbox reloaded", ["sandbox", "reloaded"], "/srv/releases/7")
    [event] = json.loads(graphite.get("/events/get_data", tags="reloaded"))
    assert (event["what"], event["data"]) == ("sandbox reloaded", "/srv/releases/7")


def test_a_publisher_that_has_died_does_not_look_alive(graphite: Graphite, told: str) -> None:
    name = f"stats.gauges.{told}.queues.default.depth"
    assert graphite.render(name)[name]
    eventually(lambda: graphite.render(name, since="-3s").get(name, []) == [], 20, 0.2)


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda dashboard: str(dashboard["name"]))
def test_a_browser_shows_every_graph_of_a_dashboard(
    graphite: Graphite, told: str, dashboard: dict[str, Any], tmp_path: Path
) -> None:
    if CHROMIUM is None:
        pytest.skip("chromium is not installed; `apt-get install chromium` does it")
    state = dashboards.state(dashboard, told)
    state["defaultGraphParams"] |= {"from": "-30s"}
    state["timeConfig"] |= {"relativeStartQuantity": "30", "relativeStartUnits": "seconds"}
    state["refreshConfig"]["enabled"] = False
    graphite_web.Graphite(graphite.url).save_dashboard(dashboard["name"], state)
    picture = tmp_path / f"{dashboard['name']}.png"
    page = browse(f"{graphite.url}/dashboard/{dashboard['name']}", tmp_path, "--dump-dom", f"--screenshot={picture}")
    for graph in dashboard["graphs"]:
        assert quote(graph["title"]) in page, "the browser has not asked for this graph"
    drawn = colorful(picture)
    assert drawn > 5000, f"only {drawn} pixels have a color"


def browse(url: str, folder: Path, *options: str) -> str:
    """The page when its scripts have run."""
    words = (str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars")
    more = ("--window-size=1900,1000", f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=10000")
    done = subprocess.run((*words, *more, *options, url), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def colorful(picture: Path) -> int:
    """How many pixels of a PNG have a colour: those are the curves."""
    script = (
        "import sys, cairocffi\n"
        "surface = cairocffi.ImageSurface.create_from_png(sys.argv[1])\n"  # the pixels go with it
        "pixels = bytes(surface.get_data())\n"
        "colors = zip(pixels[::4], pixels[1::4], pixels[2::4])\n"
        "print(sum(max(color) - min(color) > 100 for color in colors))"
    )
    python = servers.INSTALLED / "bin" / "python"
    return int(subprocess.run((python, "-c", script, picture), capture_output=True, check=True).stdout)
