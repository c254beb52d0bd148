"""A whole service tells its own history: what became of tasks, starts, reloads, refused reloads."""

from typing import Any

from tests.servers import BUSY, eventually
from tests.system.instance import Instance
from tests.system.releases import Releases


def told(instance: Instance, path: str) -> Any:
    status, answer = instance.call("GET", path)
    assert status == 200, answer
    return answer


def test_starts_and_reloads_stand_beside_what_became_of_tasks(released: Instance, releases: Releases) -> None:
    released.started()
    first = str(releases.link.resolve())
    assert released.ask("reload", "sandbox-runner").returncode == 0
    broken = releases.make("broken")
    broken.add("service/cli/wsgi.py", "import a_module_that_does_not_exist")
    releases.switch(broken)
    assert released.ask("reload", "sandbox").returncode == 3
    released.create("echo")

    def marks() -> Any:
        return told(released, "/metrics/history?series=all")["marks"]

    eventually(lambda: len(marks()) == 3, 20 * BUSY)
    assert [(mark["what"], mark["watcher"]) for mark in marks()] == [
        ("started", "circusd"), ("reloaded", "sandbox-runner"), ("refused", "sandbox"),
    ]  # fmt: skip
    assert [mark["release"] for mark in marks()][1:] == [first, str(broken.path)]
    eventually(lambda: told(released, "/metrics/history?series=all")["summary"]["succeeded"] == 1, 20 * BUSY)
    runners = told(released, "/runners")["runners"]
    assert {runner["release"] for runner in runners} == {first}
