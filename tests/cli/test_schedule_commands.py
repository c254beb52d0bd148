"""`sandbox schedule`, beside a real service."""

import json

from tests.cli.conftest import Command
from tests.servers import eventually


def test_a_schedule_from_its_making_to_its_end(sandbox: Command) -> None:
    words = (
        "order",
        "item=paper",
        "count=3",
        "--cron",
        "0 3 * * *",
        "--timezone",
        "Europe/Prague",
        "--overlap",
        "queue",
    )
    made = sandbox("schedule", "put", "nightly", *words, "--catch-up", "10m")
    assert (made.returncode, made.stderr) == (0, "")
    name, state, kind, when, following, last, *counts = made.stdout.rstrip("\n").split("\t")
    assert (name, state, kind, when) == ("nightly", "on", "order", "At 03:00 every day, Europe/Prague")
    assert (following[13:], last, counts) == (":00:00.000000Z", "", ["0", "0", "0"])
    assert sandbox("schedule", "list").stdout == made.stdout

    shown = sandbox("schedule", "show", "nightly").stdout
    assert shown.count("\nnext\t") == 5 and "\noverlap\tqueue\n" in shown and "\ncatch_up\t600.0\n" in shown
    assert json.loads(sandbox("schedule", "show", "nightly", "--json").stdout)["args"] == {"item": "paper", "count": 3}

    uid = sandbox("schedule", "run", "nightly").stdout.strip()
    assert sandbox("task", "wait", uid).returncode == 0
    assert json.loads(sandbox("task", "list", "--schedule", "nightly", "--json").stdout)["uid"] == uid
    assert sandbox("task", "list", "--schedule", "night").stdout == ""
    assert sandbox("schedule", "pause", "nightly").stdout.split("\t")[1] == "paused"
    assert json.loads(sandbox("schedule", "resume", "nightly", "--json").stdout)["paused"] is False
    assert sandbox("schedule", "delete", "nightly").returncode == 0
    assert sandbox("schedule", "list").stdout == ""


def test_what_cannot_be_is_told_with_its_exit_code(sandbox: Command) -> None:
    refused = sandbox("schedule", "put", "bad", "echo", "--cron", "0 0 3 * * *")
    assert refused.returncode == 2 and "6 fields" in refused.stderr
    for word in ("show", "run", "pause", "resume", "delete"):
        assert sandbox("schedule", word, "nothing").returncode == 5


def test_each_time_has_its_task_in_a_service_that_runs(sandbox: Command) -> None:
    assert sandbox("schedule", "put", "often", "echo", "message=tick", "--every", "1").returncode == 0
    try:
        last = eventually(lambda: json.loads(sandbox("schedule", "show", "often", "--json").stdout)["last"], 20)
        task = json.loads(sandbox("task", "wait", last["uid"], "--json").stdout)
        assert (task["status"], task["schedule"], task["result"]) == ("succeeded", "often", "tick")
        assert task["scheduled_for"] <= task["created_at"]
    finally:
        sandbox("schedule", "delete", "often")
