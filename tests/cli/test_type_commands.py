"""`sandbox type`, and `sandbox types` of the service, beside a real one and one that answers as a test says."""

import json

import pytest

from service.cli.main import main
from tests.cli.conftest import Command
from tests.cli.scripted import Answer, Script

STUCK: Answer = (
    200,
    {},
    {
        "types": [{"type": "echo", "queue": "default", "args": {}, "paused": None}],
        "stuck": [{"type": "gone", "queue": "side", "tasks": 12, "since": "2026-03-01T12:00:00.000000Z"}],
    },
)


def test_a_type_is_paused_and_resumed(sandbox: Command) -> None:
    words = ("--reason", "the printer burns", "--until", "2030-01-01T00:00:00Z")
    paused = sandbox("type", "pause", "talk", *words)
    assert (paused.returncode, paused.stderr) == (0, "")
    assert paused.stdout.startswith("talk\tdefault\tpaused until 2030-01-01T00:00:00")
    assert paused.stdout.endswith(": the printer burns\n")
    listed = [json.loads(line) for line in sandbox("types", "--json").stdout.splitlines()]
    assert [each["type"] for each in listed if each["paused"]] == ["talk"]
    uid = sandbox("task", "create", "talk").stdout.strip()
    assert sandbox("task", "wait", uid, "--timeout", "1").returncode == 124
    resumed = sandbox("type", "resume", "talk", "--json")
    assert json.loads(resumed.stdout)["paused"] is None
    assert sandbox("task", "wait", uid).returncode == 0


def test_a_type_that_is_none_is_not_found(sandbox: Command) -> None:
    for word in ("pause", "resume"):
        assert sandbox("type", word, "nothing").returncode == 5


def test_types_shows_those_that_no_runner_knows(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    script(STUCK, STUCK, STUCK)
    assert main(["types"]) == 0
    assert capsys.readouterr().out == (
        "echo\tdefault\topen\ngone\tside\tstuck since 2026-03-01T12:00:00.000000Z: 12 tasks\n"
    )
    assert main(["types", "--json"]) == 0
    known, gone = map(json.loads, capsys.readouterr().out.splitlines())
    assert (known["type"], "stuck" in known, gone["stuck"]["tasks"]) == ("echo", False, 12)
    assert main(["types", "gone"]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == ["type\tgone", "queue\tside"]
