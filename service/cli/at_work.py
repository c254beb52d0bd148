"""`sandbox runners` and `sandbox top`: who executes what, and what waits."""

import sys
import time
from collections.abc import Iterator
from typing import Any, Final

import click

from service.cli import queue_commands, showing
from service.cli.caller import Service
from service.cli.parsing import as_json, command, patient

HEAD: Final = ("runner", "host", "pid", "release", "since", "memory", "queues", "executes")
SHOWN_UID: Final = 12
HOME: Final = "\x1b[H"
TO_THE_END_OF_LINE: Final = "\x1b[K"
NEW_LINE: Final = "\n"
BELOW: Final = "\x1b[J"
CLEAR: Final = "\x1b[2J"


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


@command()
@click.option("--once", is_flag=True, help="one look, and no more; so it is without a terminal")
@click.option("--every", metavar="S", type=click.FloatRange(0.5), default=2.0, show_default=True, help="seconds")
@patient
def top(once: bool, every: float, timeout: float | None) -> None:
    service, beginning = Service(timeout), CLEAR + HOME
    while True:
        text = "\n".join(_frame(service))
        if once or not showing.is_terminal():
            print(text)
            return
        sys.stdout.write(f"{beginning}{text.replace(NEW_LINE, TO_THE_END_OF_LINE + NEW_LINE)}{BELOW}{NEW_LINE}")
        sys.stdout.flush()
        time.sleep(every)
        beginning = HOME  # what has not changed does not flicker


def _frame(service: Service) -> Iterator[str]:
    queues = service.get("/queues")["queues"]
    found = service.get("/runners")["runners"]
    busy = sum(len(each["executing"]) for each in found)
    lanes = sum(each["threads"] for each in found)
    waiting = sum(each["waiting"] for each in queues)
    now = time.strftime("%H:%M:%S %Z")
    yield f"{service.place}  {now}  {waiting} waiting  {busy} of {lanes} lanes busy"
    yield ""
    yield from showing.lines(queue_commands.HEAD, queue_commands.rows(queues))
    yield ""
    yield from showing.lines(HEAD, _rows(found))
