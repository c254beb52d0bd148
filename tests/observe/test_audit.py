"""Who did what, and from where."""

import json
from pathlib import Path

from service.observe.audit import AuditLog
from service.tasks.document import QUEUED, Task


def task(uid: str, type: str) -> Task:
    return Task(uid=uid, type=type, queue="default", status=QUEUED, created_at="2026-03-01T12:00:00.000000Z")


def test_a_line_for_each_task_and_one_for_what_is_about_none(tmp_path: Path) -> None:
    audit = AuditLog(tmp_path, "web")
    two = [task("a", "echo"), task("b", "sleep")]
    audit.tell_of_tasks("created", two, by="alice", origin="127.0.0.1", request_id="r")
    audit.tell("reload", by=None, origin="control.sock", command={"name": "sandbox", "password": "x"})
    lines = [json.loads(line) for line in (tmp_path / "audit.log").read_text().splitlines()]
    assert [(line["did"], line["by"], line["from"], line.get("uid"), line.get("type")) for line in lines] == [
        ("created", "alice", "127.0.0.1", "a", "echo"),
        ("created", "alice", "127.0.0.1", "b", "sleep"),
        ("reload", None, "control.sock", None, None),
    ]
    assert lines[2]["command"] == {"name": "sandbox", "password": "[removed]"}


def test_text_that_is_no_unicode_is_told_as_well(tmp_path: Path) -> None:
    AuditLog(tmp_path, "web").tell("reload", by="\ud800", origin="\ud800", name="\ud800")
    [line] = (tmp_path / "audit.log").read_text().splitlines()
    assert [json.loads(line)[name] for name in ("by", "from", "name")] == ["?", "?", "?"]
