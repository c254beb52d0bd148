"""`sandbox runners` and `sandbox top`, beside a real service."""

import json
import os
import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.cli.terminal import Terminal
from tests.http_server import Handler, HttpServer
from tests.servers import eventually
from tests.system.instance import SANDBOX, Instance

OWN_SCREEN = "\x1b[?1049h"
OWN_SCREEN_ENDS = "\x1b[?1049l"


def test_runners_says_who_executes_what(running: Instance, sandbox: Command) -> None:
    uid = sandbox("task", "create", "sleep", "seconds=600").stdout.strip()
    try:
        [line] = eventually(lambda: (seen := sandbox("runners").stdout).count(uid[:12]) and seen.splitlines(), 60)
        assert f"sleep {uid[:12]}" in line
        found = json.loads(sandbox("runners", "--json").stdout)
        assert [what["uid"] for what in found["executing"]] == [uid]
        with Terminal(*SANDBOX, "runners", environment=running.environment, columns=300) as terminal:
            assert terminal.ends() == 0
        assert "MEMORY" in terminal.shown and " MB" in terminal.shown
    finally:
        sandbox("task", "cancel", uid)


def test_top_shows_queues_and_runners_once_or_again_and_again(running: Instance, sandbox: Command) -> None:
    once = sandbox("top")
    assert (once.returncode, once.stderr) == (0, "")
    assert f"http://127.0.0.1:{running.port}" in once.stdout and "side\topen\t0\t0\t0" in once.stdout
    with Terminal(*SANDBOX, "top", "--every", "0.5", environment=running.environment, columns=200) as terminal:
        assert terminal.shows("WAITING")
        uid = sandbox("task", "create", "sleep", "seconds=600").stdout.strip()
        assert terminal.shows(f"{uid[:12]}  sleep", 60)
        sandbox("task", "cancel", uid)
        assert not terminal.is_as_before()
        terminal.types("\x03")
        assert terminal.ends() == 130
        assert terminal.is_as_before()
    assert "Traceback" not in terminal.shown
    assert terminal.shown.endswith(OWN_SCREEN_ENDS) and terminal.shown.startswith(OWN_SCREEN)


def test_top_ends_by_a_key_and_fits_the_terminal_also_when_that_is_resized(running: Instance) -> None:
    with Terminal(*SANDBOX, "top", "--every", "600", environment=running.environment, columns=24, rows=4) as terminal:
        assert terminal.shows("lines more")
        assert "SCHEDULED" not in terminal.shown and "…\r\n" in terminal.shown
        terminal.types("x")
        terminal.resize(200, 50)
        assert terminal.shows("SCHEDULED")
        terminal.types("q")
        assert terminal.ends() == 0
        assert terminal.is_as_before()
    assert terminal.shown.endswith(OWN_SCREEN_ENDS)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_top_leaves_the_terminal_as_it_was(running: Instance, number: int) -> None:
    with Terminal(*SANDBOX, "top", environment=running.environment) as terminal:
        assert terminal.shows("WAITING")
        terminal.process.send_signal(number)
        assert terminal.ends() == 128 + number
        assert terminal.is_as_before()
    assert terminal.shown.endswith(OWN_SCREEN_ENDS)


def test_top_can_be_put_aside_and_brought_back(running: Instance) -> None:
    with Terminal(*SANDBOX, "top", environment=running.environment) as terminal:
        assert terminal.shows("WAITING")
        terminal.types("\x1a")
        stat = Path(f"/proc/{terminal.process.pid}/stat")
        eventually(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", 30)
        assert terminal.shows(OWN_SCREEN_ENDS) and terminal.is_as_before()
        terminal.shown = ""
        os.kill(terminal.process.pid, signal.SIGCONT)
        assert terminal.shows(OWN_SCREEN) and terminal.shows("WAITING")
        terminal.types("q")
        assert terminal.ends() == 0


class Told(Handler):
    def do_GET(self) -> None:
        queue = {"queue": "side", "paused": None, "waiting": 7, "running": 0, "scheduled": 0, "oldest": None}
        body = json.dumps({"queues": [queue], "runners": []}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def test_top_goes_on_when_the_service_is_away(running: Instance) -> None:
    with ExitStack() as service:
        server = HttpServer(Told)
        service.callback(server.close)
        environment = {**running.environment, "SANDBOX_URL": f"http://127.0.0.1:{server.port}"}
        with Terminal(*SANDBOX, "top", "--every", "0.5", environment=environment, columns=200) as terminal:
            assert terminal.shows("7 waiting")
            service.close()
            assert terminal.shows("as it was: ")
            terminal.shown = ""
            assert terminal.shows("7 waiting")
            terminal.types("q")
            assert terminal.ends() == 0
