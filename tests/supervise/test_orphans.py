"""What belongs to a state folder is told by marks, which may be odd."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.supervise.start import orphans
from tests.servers import eventually

Start = Callable[..., int]


@pytest.fixture
def start() -> Iterator[Start]:
    """A process in a session of its own, with this environment."""
    started: list[subprocess.Popen[bytes]] = []

    def start(**environment: str) -> int:
        started.append(subprocess.Popen(["/bin/sleep", "60"], env=environment, start_new_session=True))
        return started[-1].pid

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_marked_processes_of_the_folder_are_found_and_odd_ones_stop_nothing(start: Start, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    start(SANDBOX_WATCHER="10 45 sandbox")
    start(SANDBOX_WATCHER="10 4", SANDBOX_HOME=str(tmp_path))
    start(SANDBOX_WATCHER="ten 45 sandbox", SANDBOX_HOME=str(tmp_path))
    start(SANDBOX_WATCHER="10 45 sandbox", SANDBOX_HOME=str(tmp_path / "nowhere"))
    start(SANDBOX_WATCHER="10 45 sandbox", SANDBOX_HOME=str(tmp_path / "other"))
    ours = start(SANDBOX_WATCHER="10 45 sandbox", SANDBOX_HOME=str(tmp_path))
    accepted = start(SANDBOX_WATCHER="11 45 web", SANDBOX_HOME=str(tmp_path), SANDBOX_TRIAL=str(tmp_path / "gone"))
    on_trial = start(SANDBOX_WATCHER="12 45 web", SANDBOX_HOME=str(tmp_path), SANDBOX_TRIAL=str(tmp_path / "other"))
    assert [(orphan.process.pid, orphan.watcher) for orphan in orphans.find(tmp_path)] == [
        (ours, (10, 45, "sandbox")),
        (accepted, (11, 45, "web")),
        (on_trial, (12, 0, "web")),
    ]


def test_what_a_living_supervisor_has_started_is_known(start: Start, tmp_path: Path) -> None:
    start(SANDBOX_WATCHER="10 45 sandbox", SANDBOX_HOME=str(tmp_path), SANDBOX_SUPERVISOR="1")  # which has ended
    start(SANDBOX_WATCHER="10 45 sandbox", SANDBOX_HOME=str(tmp_path), SANDBOX_SUPERVISOR="odd")
    start(SANDBOX_WATCHER="10 45 sandbox", SANDBOX_HOME=str(tmp_path))
    assert orphans.supervisor(orphans.find(tmp_path)) is None
    start(SANDBOX_WATCHER="10 45 sandbox", SANDBOX_HOME=str(tmp_path), SANDBOX_SUPERVISOR=str(os.getpid()))
    eventually(lambda: orphans.supervisor(orphans.find(tmp_path)) == os.getpid())
