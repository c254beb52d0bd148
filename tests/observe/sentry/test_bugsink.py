"""A whole service, and a real server that speaks Sentry's protocol: what the person on call sees."""

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.observe.sentry.bugsink import Bugsink
from tests.servers import eventually
from tests.system.conftest import make_instance  # noqa: F401 - a fixture
from tests.system.instance import Instance

SECRET = "hunter2-x9"


@pytest.fixture(scope="module")
def bugsink() -> Iterator[Bugsink]:
    with tempfile.TemporaryDirectory(prefix="sandbox-") as folder:
        server = Bugsink(Path(folder))
        try:
            yield server.start()
        finally:
            server.stop()


def test_errors_of_views_and_tasks_are_an_issue_each_and_repeats_are_counted(
    bugsink: Bugsink,
    make_instance: Callable[..., Instance],  # noqa: F811
    client: str,
) -> None:
    project = bugsink.new_project(client)
    instance = make_instance(
        SENTRY_DSN=project.dsn,
        SENTRY_CLIENT=client,
        SENTRY_ENVIRONMENT="staging",
        SENTRY_RELEASE="sandbox@9.9",
        SANDBOX_TASKS="service.builtin.demo,tests.observe.sentry.faults",
    ).started()
    for number in range(4):
        order = {"number": number, "card": {"token": SECRET}}
        assert instance.call("POST", "/tasks", {"type": "faulty.check", "args": {"order": order}})[0] == 500
    uids = [instance.create("faulty.run", number=number, password=SECRET) for number in range(7)]
    eventually(lambda: all(instance.task(uid)["status"] == "failed" for uid in uids))
    eventually(lambda: sorted(issue["digested_event_count"] for issue in project.issues()) == [4, 7], 30)
    of_view, of_task = sorted(project.issues(), key=lambda issue: issue["digested_event_count"])

    assert (of_view["calculated_type"], of_task["calculated_type"]) == ("LookupError", "ValueError")
    views, tasks = project.events(of_view), project.events(of_task)
    for event in [*views, *tasks]:
        assert SECRET not in json.dumps(event)
        assert (event["data"]["release"], event["data"]["environment"]) == ("sandbox@9.9", "staging")
    assert _tags(views[0]).items() >= {"process": "web", "route": "/tasks"}.items()
    assert _tags(tasks[0]).items() >= {"process": "runner", "type": "faulty.run", "queue": "default"}.items()
    assert _functions(views[0])[-1] == "__post_init__"
    assert _functions(tasks[0])[-1] == "faulty_run"
    assert {_tags(event)["uid"] for event in tasks} == set(uids)
    in_documents = {instance.task(uid)["error"]["event_id"] for uid in uids}
    assert {event["event_id"].replace("-", "") for event in tasks} == in_documents
    assert instance.stop() == 0


def _tags(event: dict[str, Any]) -> dict[str, str]:
    return dict(event["data"]["tags"])


def _functions(event: dict[str, Any]) -> list[str]:
    frames = event["data"]["exception"]["values"][-1]["stacktrace"]["frames"]
    return [frame["function"] for frame in frames]
