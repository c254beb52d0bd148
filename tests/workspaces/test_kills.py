"""kill -9 at each point of a creation and of a deletion: whoever comes next goes on, and ends right."""

import json
import os
import signal
import subprocess
import sys
import threading

import psutil
import pytest

from service.workspaces import whose
from tests.system.instance import ROOT
from tests.workspaces.conftest import SMALL
from tests.workspaces.yard import EMAIL, SLUG, Yard

CREATION = [
    *("before:make_folders", "after:make_folders", "after:fetch", "before:main_sha", "before:clone", "after:clone"),
    *("before:push_new", "after:push_new", "before:checkout", "after:checkout", "within:venv", "after:venv"),
    *("after:requirements", "after:freeze", "before:switch", "after:switch", "after:database"),
    *("before:write_env", "after:write_env", "before:link_media", "after:link_media", "before:start", "after:start"),
]
DELETION = [
    *("after:git-status", "before:unlink_media", "after:unlink_media", "before:stop", "after:stop", "after:kill"),
    *("before:remove", "after:remove", "before:remove_folders", "within:remove_folders", "after:remove_folders"),
    *("after:remove_user", "after:left"),
]


def killed(yard: Yard, action: str, point: str, **arguments: object) -> None:
    words = [str(yard.folder), str(yard.port), action, json.dumps(arguments), point]
    done = subprocess.run(
        [sys.executable, "-m", "tests.workspaces.victim", *words], cwd=ROOT, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == -signal.SIGKILL, (point, done.stdout, done.stderr)


def state(yard: Yard) -> set[str]:
    """All that is there of workspaces, but for the tombstone."""
    folders = (yard.places.homes, yard.places.sockets, yard.places.pages, yard.places.run / "conf.d")
    found = {f"{folder.name}/{name}" for folder in folders if folder.is_dir() for name in os.listdir(folder)}
    found |= {f"process {pid}" for pid in whose.marked(yard.places.homes)}
    return (found | {f"branch {name}" for name in yard.branches()}) - {"conf.d/nginx.ini"}


@pytest.mark.slow
@pytest.mark.ci
def test_a_creation_and_a_deletion_go_on_where_they_were_killed(small: Yard) -> None:
    before = state(small)
    media = small.places.shared_media / "lamp.svg"
    media.parent.mkdir(parents=True)
    media.write_text("<svg/>")
    for point in CREATION:
        killed(small, "create", point, email=EMAIL)
        assert small.record().state == "creating", point
    assert len(list(small.home().venvs.iterdir())) == 1  # one that was whole is taken, not built again
    assert small.done("create", email=EMAIL)["state"] == "ready"
    assert small.get()[1].endswith(" hello")
    assert set(small.record().steps.values()) == {"done"}
    assert whose.marked(small.home().path, whose.STEPS) == []

    for point in DELETION:
        killed(small, "delete", point, slug=SLUG)
    assert small.done("delete", slug=SLUG)["state"] == "deleted"
    assert state(small) == before
    assert media.read_text() == "<svg/>"


@pytest.mark.slow
def test_a_workspace_is_built_after_everything_was_killed(small: Yard) -> None:
    """Of what a supervisor serves that was killed, too."""
    small.done("create", email=EMAIL)
    supervised = len(small.supervisor())
    for pid in small.supervisor():
        os.kill(pid, signal.SIGKILL)
    assert small.done("start", slug=SLUG)["state"] == "ready"
    assert small.get()[1].endswith(" hello")
    assert len(small.supervisor()) == supervised


@pytest.mark.slow
def test_what_has_given_itself_a_title_is_found_after_its_launcher_and_circusd_were_killed(small: Yard) -> None:
    small.push("main", "requirements.txt", "setproctitle\n")
    small.push("main", "serve.py", f"from setproctitle import setproctitle\nsetproctitle('shop')\n{SMALL['serve.py']}")
    small.done("create", email=EMAIL)
    first = int(small.get()[1].partition(" ")[0])
    assert psutil.Process(first).cmdline()[0] == "shop"
    for pid in (small.plan.hands.status(SLUG).pid, *small.supervisor()):
        os.kill(pid, signal.SIGKILL)
    assert small.done("start", slug=SLUG)["state"] == "ready"
    assert not psutil.pid_exists(first)


@pytest.mark.slow
def test_an_update_goes_on_where_it_was_killed(small: Yard) -> None:
    small.done("create", email=EMAIL)
    small.push(EMAIL, "requirements.txt", "# nothing yet\n")
    sha = small.push(EMAIL, "text", "newer")
    killed(small, "update", "after:git-forward", slug=SLUG)
    assert small.get()[1].endswith(" newer") and small.home().venv.readlink().name == "1"
    killed(small, "update", "after:requirements", slug=SLUG)
    assert small.done("update", slug=SLUG)["to"] == sha
    assert small.home().venv.readlink().name == "2" and small.get()[1].endswith(" newer")
    assert set(small.record().steps.values()) == {"done"}


MANAGE = """
import os, sys, time
log = open("../data/ran", "a", buffering=1)
log.write(f"{sys.argv[1]} begins\\n")
while os.path.exists("../data/slow") and sys.argv[1] == "migrate":
    time.sleep(0.01)
log.write(f"{sys.argv[1]} ends\\n")
"""


@pytest.mark.slow
def test_what_a_killed_update_still_runs_is_ended_before_the_next_begins(small: Yard) -> None:
    small.push("main", "manage.py", MANAGE)
    small.done("create", email=EMAIL)
    slow, ran = small.home().data / "slow", small.home().data / "ran"
    ran.unlink()
    slow.touch()
    small.push(EMAIL, "text", "newer")
    killed(small, "update", "within:migrate", slug=SLUG)
    [left] = whose.marked(small.home().path, whose.STEPS)
    threading.Timer(2, slow.unlink).start()
    small.done("update", slug=SLUG)
    assert not psutil.pid_exists(left)
    assert ran.read_text().split("\n")[1:-1] == [
        "migrate begins",
        "migrate ends",
        "collectstatic begins",
        "collectstatic ends",
    ]
