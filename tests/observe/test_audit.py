"""Who did what, and from where."""

import json
from pathlib import Path

from service.observe.audit import AuditLog


def test_a_line_for_each_task_and_one_for_what_is_about_none(tmp_path: Path) -> None:
    audit = AuditLog(tmp_path, "web")
    audit.tell("created", by="alice", origin="127.0.0.1", uids=["a", "b"], type="echo")
    audit.tell("reload", by=None, origin="control.sock", command={"name": "sandbox", "password": "x"})
    lines = [json.loads(line) for line in (tmp_path / "audit.log").read_text().splitlines()]
    assert [(line["did"], line["by"], line["from"], line.get("uid")) for line in lines] == [
        ("created", "alice", "127.0.0.1", "a"),
        ("created", "alice", "127.0.0.1", "b"),
        ("reload", None, "control.sock", None),
    ]
    assert lines[2]["command"] == {"name": "sandbox", "password": "[removed]"}
