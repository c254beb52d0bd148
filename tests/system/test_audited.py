"""Each control command that changes something is a line of the audit log."""

import json
import os
import signal
from pathlib import Path

from circus.client import CircusClient

from tests.servers import eventually
from tests.system.instance import Instance


def told(instance: Instance) -> list[tuple[object, ...]]:
    lines = map(json.loads, Path(instance.home / "log" / "audit.log").read_text().splitlines())
    return [
        (line["did"], line["by"], line["from"], line["what"].get("name"))
        for line in lines
        if line["process"] == f"circusd/{instance.pid}"
    ]


def test_what_changes_something_is_told_and_what_asks_or_is_refused_is_not(instance: Instance) -> None:
    instance.started()
    eventually(lambda: instance.circusctl("incr", "sandbox-runner") == "ok\n")  # while it starts, circus refuses it
    instance.circusctl("status")
    instance.circusctl("list", "sandbox-runner")
    assert instance.circusctl("reload", "sandbx").startswith("error: ")
    assert instance.circusctl("set", "sandbox-runner", "max_age", "100000") == "ok\n"
    assert instance.circusctl("stop", "sandbox-runner") == "ok\n"
    os.kill(instance.pid, signal.SIGHUP)
    eventually(lambda: len(told(instance)) == 4)
    assert instance.stop() == 0
    assert told(instance) == [
        ("incr", None, "control.sock", "sandbox-runner"),
        ("set", None, "control.sock", "sandbox-runner"),
        ("stop", None, "control.sock", "sandbox-runner"),
        ("reload", None, "SIGHUP", None),
        ("quit", None, "SIGTERM", None),
    ]


def test_a_secret_is_left_out(instance: Instance) -> None:
    instance.started()
    client = CircusClient(timeout=60, endpoint=instance.variables()["CIRCUSCTL_ENDPOINT"])
    environment = {**instance.environment, "API_TOKEN": "hidden"}  # in place of the runners' own
    wish = {"name": "sandbox-runner", "options": {"env": environment}}
    eventually(lambda: client.send_message("set", **wish)["status"] == "ok")
    client.stop()
    eventually(lambda: len(told(instance)) == 1)
    assert "hidden" not in Path(instance.home / "log" / "audit.log").read_text()
    assert instance.stop() == 0
    instance.is_gone()
