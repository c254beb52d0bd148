"""The dashboards that come with the project (conf/graphite/dashboards/), as graphite-web keeps them.

A file holds questions with the targets that answer them; the prefix of the metrics' names and the marks
of starts and reloads, which every graph shows, are filled in here.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from service.supervise.observer.graphite import Graphite

SIZE: Final = {"width": 600, "height": 280}
SINCE: Final = {"from": "-3hours", "until": "now"}
MARKS: Final = {"started": ("start", "blue"), "reloaded": ("reload", "black"), "refused": ("refused reload", "orange")}
LOOKS: Final = {"yMin": 0, "hideLegend": "false", "lineMode": "connected"}


def load(graphite: Graphite, prefix: str, folder: Path) -> Iterator[str]:
    """Saves each dashboard, and tells its address."""
    for file in sorted(folder.glob("*.json")):
        dashboard = json.loads(file.read_text())
        graphite.save_dashboard(dashboard["name"], state(dashboard, prefix))
        yield f"{graphite.url}/dashboard/{dashboard['name']}"


def state(dashboard: dict[str, Any], prefix: str) -> dict[str, Any]:
    """What graphite-web's own page would save."""
    graphs = [_parameters(graph, prefix) for graph in dashboard["graphs"]]
    return {
        "name": dashboard["name"],
        "timeConfig": {
            "type": "relative",
            "relativeStartQuantity": "3",
            "relativeStartUnits": "hours",
            "relativeUntilQuantity": "",
            "relativeUntilUnits": "now",
            "startDate": "2026-01-01T00:00:00",
            "startTime": "0:00",
            "endDate": "2026-01-01T00:00:00",
            "endTime": "23:59",
        },
        "refreshConfig": {"enabled": True, "interval": 60_000},
        "graphSize": SIZE,
        "defaultGraphParams": {**SIZE, **SINCE},
        "graphs": [
            [
                urlencode({"target": graph["target"]}, doseq=True),
                graph,
                "/render?" + urlencode({**SIZE, **SINCE, **graph}, doseq=True),
            ]
            for graph in graphs
        ],
    }


def _parameters(graph: dict[str, Any], prefix: str) -> dict[str, Any]:
    looks = {name: value for name, value in graph.items() if name != "targets"}
    targets = [target.replace("{prefix}", prefix) for target in graph["targets"]]
    return {**LOOKS, **looks, "target": targets + [_mark(prefix, event, *look) for event, look in MARKS.items()]}


def _mark(prefix: str, event: str, label: str, color: str) -> str:
    """A vertical line wherever the service was started, any watcher reloaded, or its reload refused."""
    counted = f"sumSeries(stats.counters.{prefix}.processes.*.{event}.count)"
    return f"color(alias(drawAsInfinite({counted}), '{label}'), '{color}')"
