"""`sandbox runners` and `sandbox top`, beside a real service."""

import json

from tests.cli.conftest import Command
from tests.cli.terminal import Terminal
from tests.servers import eventually
from tests.system.instance import SANDBOX, Instance


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
        assert terminal.shows(f"sleep {uid[:12]}", 60)
        sandbox("task", "cancel", uid)
        terminal.interrupt()
        assert terminal.ends() == 130
    assert "Traceback" not in terminal.shown
