"""`sandbox runners`: who executes what."""

from collections.abc import Iterator
from typing import Any, Final

from service.cli import showing
from service.cli.caller import Service
from service.cli.parsing import as_json, command, patient

HEAD: Final = ("runner", "host", "pid", "release", "since", "memory", "queues", "executes")
SHOWN_UID: Final = 12


@command()
@patient
@as_json
def runners(timeout: float | None, as_json: bool) -> None:
    found = Service(timeout).get("/runners")["runners"]
    if as_json:
        showing.documents(found)
    else:
        showing.table(HEAD, _rows(found))


def _rows(found: list[dict[str, Any]]) -> Iterator[tuple[object, ...]]:
    for each in found:
        since, memory = each["started_at"], each["memory"]
        if showing.is_terminal():
            since, memory = showing.ago(since), showing.megabytes(memory)
        executing = ", ".join(map(_executed, each["executing"])) or "nothing"
        queues = ",".join(each["queues"])
        yield each["runner"], each["host"], each["pid"], each["release"], since, memory, queues, executing


def _executed(what: dict[str, Any]) -> str:
    return f"{what['type']} {what['uid'][:SHOWN_UID]} ({showing.ago(what['since'])})"
