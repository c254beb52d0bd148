"""Sends every metric once or a few times, with numbers that vary as in life."""

import random

from service.observe.metrics import StatsDMetrics
from service.store import Backlog
from service.supervise.observer.scales import Weight
from service.tasks import moments, transitions
from service.tasks.document import TaskError
from tests.observe.metrics.test_metrics import ENTRY, new, succeeded


def tell_everything(told: StatsDMetrics, number: int) -> None:
    """One moment of a service with a bit of everything."""
    chance = random.Random(number)
    routes = (("/tasks", "POST", "201"), ("/tasks/<uid>", "GET", "200"), ("/tasks", "GET", "200"))
    failures = (("/tasks", "POST", "422"), ("/tasks/<uid>", "GET", "404"), ("/tasks", "POST", "503"))
    about = [new("report.build"), new()]
    for route, method, status in routes * chance.randint(2, 9) + failures[: chance.randint(0, 3)]:
        told.request(route, method, status, chance.expovariate(200), waited=False, event="created", about=about)
    told.request("/tasks/<uid>", "GET", "200", chance.random(), waited=True, event="", about=())
    told.request("/tasks/<uid>/retry", "POST", "200", 0.002, waited=False, event="requeued", about=[new()])
    told.request("/tasks/<uid>", "DELETE", "200", 0.002, waited=False, event="cancelled", about=[new()])
    told.request("/tasks/<uid>", "DELETE", "200", 0.002, waited=False, event="purged", about=[new()])
    told.changed("held", [new()])
    done = [succeeded(1e9 + chance.random(), chance.expovariate(3), type=kind) for kind in ("echo", "report.build") * 5]
    error = TaskError(type="E", message="m")
    failed = transitions.failed(new("report.build"), error, moments.stamp(1e9), moments.stamp(1e9 + 1), 1.0)
    retried = transitions.retried(new("report.build"), error, moments.stamp(1e9), 1.0, moments.stamp(2e9))
    returned = transitions.handed_back(new(), ran=True)
    told.outcomes([*done, failed, retried, returned], [ENTRY] * 13)
    told.backlog(
        {"default": Backlog(chance.randint(3, 20), 2, 4, chance.random() * 3), "reports": Backlog(2, 1, 0, 9, 1)}
    )
    told.limits({"per-customer": chance.randint(0, 40)})
    told.types(["mail.send"], {"report.old": chance.randint(1, 40)})
    weights = {"sandbox": (3, 150e6, 60), "sandbox-runner": (2, 75e6, 30), "redis": (1, 20e6, 20)}
    told.weights(
        {name: Weight(n, chance.uniform(10, 60), int(memory), files) for name, (n, memory, files) in weights.items()}
    )
    for event in ("fired", "skipped", "missed"):
        told.schedule("report.nightly", event, chance.randint(0, 2))
    if number == 3:
        told.process_event("circusd", "started")
    if number == 5:
        for event in ("spawned", "reaped", "reloaded"):
            told.process_event("sandbox", event)
    if number == 8:
        for event in ("spawned", "reaped", "refused", "throttled"):
            told.process_event("sandbox-runner", event)
