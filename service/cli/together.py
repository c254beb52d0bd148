"""`sandbox task retry` and `cancel` for all that a filter shows: a task of the service's own does it."""

import sys
from collections.abc import Mapping
from typing import Any, Final

import click

from service.cli import following, showing, waits
from service.cli.caller import Service

DONE: Final = {"retry": "queued again", "cancel": "cancelled"}


def act(word: str, only: Mapping[str, Any], *, dry_run: bool, yes: bool, timeout: float | None, as_json: bool) -> int:
    path = f"/tasks/{word}"
    if dry_run:
        _show_count(Service(timeout).post(path, {**only, "dry_run": True}, again=True), as_json)
        return 0
    service = Service(timeout, waits.PATIENCE_SECONDS)
    if not yes and sys.stdin.isatty() and showing.is_terminal():
        matched = _told(service.post(path, {**only, "dry_run": True}, again=True))
        click.confirm(f"{word} {matched}?", abort=True, err=True)
    begun = service.post(path, only)
    ended = following.to_its_end(service, begun["uid"], timeout, lambda line: showing.log_line(line, sys.stderr))
    if as_json:
        showing.document(ended)
    else:
        _show_outcome(word, ended)
    return 0 if ended["status"] == "succeeded" else 1


def _show_count(found: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        showing.document(found)
    elif showing.is_terminal():
        print(_told(found))
    else:
        print(showing.clean(found["matched"]))


def _told(found: Mapping[str, Any]) -> str:
    least = "at least " if found["more"] else ""
    return f"{least}{found['matched']:,} {'task' if found['matched'] == 1 else 'tasks'}"


def _show_outcome(word: str, ended: Mapping[str, Any]) -> None:
    result = ended["result"] or {"changed": 0, "left_out": {}}
    print(f"{showing.clean(result['changed'])}\t{DONE[word]}")
    for why, number in result["left_out"].items():
        print(f"{showing.clean(number)}\tleft out: {showing.clean(why)}")
    if ended["status"] != "succeeded":
        showing.tell(f"the task {ended['uid']} that did it has ended as {ended['status']}; `sandbox task get` says why")
