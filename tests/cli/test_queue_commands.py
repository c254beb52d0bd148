"""`sandbox queue`, beside a real service."""

import json

from tests.cli.conftest import Command


def test_a_queue_is_paused_and_resumed(sandbox: Command) -> None:
    assert [line.split("\t")[:2] for line in sandbox("queue", "list").stdout.splitlines()] == [
        ["default", "open"],
        ["side", "open"],
    ]
    words = ("--reason", "the printer burns", "--until", "2030-01-01T00:00:00Z")
    paused = sandbox("queue", "pause", "side", *words)
    assert (paused.returncode, paused.stderr) == (0, "")
    assert paused.stdout.startswith("side\tpaused until 2030-01-01T00:00:00")
    assert paused.stdout.split("\t")[1].endswith(": the printer burns")
    uid = sandbox("task", "create", "echo", "--queue", "side").stdout.strip()
    assert sandbox("task", "wait", uid, "--timeout", "1").returncode == 124
    resumed = sandbox("queue", "resume", "side", "--json")
    assert json.loads(resumed.stdout)["paused"] is None
    assert sandbox("task", "wait", uid).returncode == 0


def test_a_queue_that_is_none_is_not_found(sandbox: Command) -> None:
    for word in ("pause", "resume"):
        assert sandbox("queue", word, "nowhere").returncode == 5
