"""`sandbox runners` and `sandbox top`: who executes what, and what waits."""

import time
from collections.abc import Iterator
from typing import Any, Final

import click

from service.cli import queue_commands, showing
from service.cli.caller import UNAVAILABLE, CallFailed, Service
from service.cli.parsing import Duration, as_json, command, patient

HEAD: Final = ("runner", "host", "pid", "release", "since", "memory", "queues", "executes")
SHOWN_UID: Final = 12
RUNNERS: Final = ("runner", "lanes", "memory", "since", "queues", "release")
TASKS: Final = ("task", "type", "queue", "since", "runner")


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
@click.option("--every", metavar="S", type=Duration(0.5), default=2.0, show_default=True, help="seconds")
@patient
def top(once: bool, every: float, timeout: float | None) -> None:
    service = Service(timeout)
    frame = [*_frame(service)]
    if once or not showing.has_screen():
        print("\n".join(frame))
        return
    from service.cli.screen import Screen

    impatient = service if timeout is not None else Service(0)  # keys are not heard meanwhile
    with Screen() as screen:
        screen.show(frame)
        while screen.wait(every):
            frame = _next(impatient, frame)
            screen.show(frame)


def _next(service: Service, before: list[str]) -> list[str]:
    """While the service does not answer, what was known before, and why it is old."""
    try:
        return [*_frame(service)]
    except CallFailed as error:
        if error.exit_code != UNAVAILABLE:
            raise
        told = str(error).partition("\n")[0]
        return [before[0], showing.coloured(showing.fitting(f"as it was: {told}"), showing.ALARM), *before[2:]]


def _frame(service: Service) -> Iterator[str]:
    queues = service.get("/queues")["queues"]
    found = service.get("/runners")["runners"]
    busy = sum(len(each["executing"]) for each in found)
    lanes = sum(each["threads"] for each in found)
    waiting = sum(each["waiting"] for each in queues)
    now = time.strftime("%H:%M:%S")
    yield showing.fitting(f"{now}  {waiting} waiting  {busy} of {lanes} lanes busy  {service.place}")
    yield ""
    yield from showing.lines(queue_commands.HEAD, queue_commands.rows(queues))
    yield ""
    yield from showing.lines(RUNNERS, _runners(found))
    if busy:
        yield ""
        yield from showing.lines(TASKS, _tasks(found))


def _runners(found: list[dict[str, Any]]) -> Iterator[tuple[object, ...]]:
    for each in found:
        busy, memory = f"{len(each['executing'])} of {each['threads']}", showing.megabytes(each["memory"])
        since = showing.ago(each["started_at"])
        yield each["runner"], busy, memory, since, ",".join(each["queues"]), each["release"]


def _tasks(found: list[dict[str, Any]]) -> Iterator[tuple[object, ...]]:
    """The longest at work first."""
    at_work = [(what, each) for each in found for what in each["executing"]]
    for what, each in sorted(at_work, key=lambda pair: str(pair[0]["since"])):
        yield what["uid"][:SHOWN_UID], what["type"], what["queue"], showing.ago(what["since"]), each["runner"]
