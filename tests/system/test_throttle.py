"""What crashes again and again is started less and less often, and everybody is told."""

import os
import re
import signal
import time

import pytest

from tests.servers import BUSY, eventually
from tests.system.events import Events
from tests.system.instance import Instance
from tests.system.releases import Release, Releases

PAUSE = re.compile(r"sandbox-runner has crashed \d+ times in a row; the next start waits (\d+) s")
BROKEN = "raise ImportError('edited in place')"


@pytest.fixture
def instance(released: Instance) -> Instance:
    released.environment["SANDBOX_RUNNERS"] = "1"
    return released


def log(instance: Instance) -> str:
    return (instance.home / "log" / "circus.log").read_text()


def failing(instance: Instance) -> dict[str, str]:
    """What is named beside the missing runner."""
    _, body = instance.call("GET", "/health/ready")
    return {name: told for name, told in body.get("failing", {}).items() if name != "runners"}


def edit(release: Release, old: str, new: str) -> None:
    release.change("service/runner/process.py", old, new)


def crash(instance: Instance) -> None:
    [runner] = eventually(lambda: len(found := instance.kinds()["runner"]) == 1 and found)
    assert instance.circusctl("signal", "sandbox-runner", str(runner.pid), "kill") == "ok\n"


def test_broken_code_in_place_is_throttled_and_named_until_it_is_mended(instance: Instance, releases: Releases) -> None:
    instance.started()
    one = Release.at(releases.link.resolve())
    with Events(instance) as events:
        one.add("service/runner/process.py", BROKEN)
        refused = instance.circusctl("reload", "sandbox-runner")
        assert "It lies where the running one was started from" in refused
        crash(instance)
        eventually(lambda: [int(pause) for pause in PAUSE.findall(log(instance))][:4] == [1, 2, 4, 8], 60, 0.1)
        *_, last_but_one, last = (spawn["time"] for spawn in events.of("watcher.sandbox-runner.spawn"))
        assert last - last_but_one > 4
        assert {"pause": 1.0, "crashes": 5} in events.of("watcher.sandbox-runner.throttled")
    assert failing(instance) == {"sandbox-runner": "crashed 8 times in a row"}
    assert "has crashed 8 times in a row" in instance.output
    edit(one, BROKEN, "")
    assert instance.circusctl("reload", "sandbox-runner") == "ok\n"
    assert failing(instance) == {}
    uid = instance.create("echo")
    eventually(lambda: instance.succeeded(uid))


def test_it_recovers_by_itself_when_what_it_needs_is_back(instance: Instance, releases: Releases) -> None:
    instance.started()
    one = Release.at(releases.link.resolve())
    one.add("service/runner/process.py", BROKEN)
    crash(instance)
    eventually(lambda: failing(instance), 30, 0.1)
    edit(one, BROKEN, "")
    eventually(lambda: not failing(instance), 30, 0.1)
    assert "sandbox-runner is not throttled any more" in log(instance)


def test_a_program_that_is_missing_is_tried_again_later(instance: Instance, releases: Releases) -> None:
    instance.started()
    two = releases.make("two")
    python = two.with_interpreter()
    releases.switch(two)
    assert instance.circusctl("reload", "sandbox-runner") == "ok\n"
    away = python.rename(python.with_name("away"))
    crash(instance)
    eventually(lambda: failing(instance), 30, 0.1)
    away.rename(python)
    eventually(lambda: instance.kinds()["runner"], 30, 0.1)


def test_what_is_killed_now_and_then_is_replaced_at_once(instance: Instance) -> None:
    instance.started()
    for _ in range(3):
        before = instance.kinds()["runner"]
        crash(instance)
        began = time.monotonic()
        eventually(lambda before=before: len(instance.kinds()["runner"]) == 1 and instance.kinds()["runner"] != before)
        assert time.monotonic() - began < 3 * BUSY
    assert failing(instance) == {}


LACKING = {
    "in gunicorn": ("service/web/app.py", "import not_installed"),
    "in a worker": ("service/cli/wsgi.py", "import not_installed"),
}


@pytest.mark.parametrize("where", LACKING)
def test_a_first_start_whose_web_never_comes_up_ends_and_says_why(
    instance: Instance, releases: Releases, where: str
) -> None:
    """Clients would wait at the open port for an answer that never comes."""
    Release.at(releases.link.resolve()).add(*LACKING[where])
    instance.start()
    assert instance.wait(60) == 1
    assert "No module named 'not_installed'" in instance.output
    # gunicorn ends with 3, and with 1 if another worker fails while it stops.
    failed = r"the start has failed: sandbox has ended with code [13], 3 times in a row, and has never served"
    assert re.search(failed, instance.output)
    instance.is_gone()
    with pytest.raises(ConnectionRefusedError):
        instance.call("GET", "/health/live")


def test_a_web_that_has_served_is_started_again_and_again(instance: Instance, releases: Releases) -> None:
    instance.started()
    Release.at(releases.link.resolve()).add("service/web/app.py", "import not_installed")
    os.kill(min(instance.kinds()["web"]).pid, signal.SIGKILL)
    eventually(lambda: "sandbox has crashed 6 times in a row" in instance.output, 60)
    assert instance.is_running()
    assert instance.stop() == 0
