"""`sandbox queue`: what waits where, and whether it may start."""

from collections.abc import Iterator
from typing import Any, Final

import click

from service.cli import pause_resume, showing, suggest
from service.cli.caller import Service
from service.cli.parsing import as_json, group, patient

HEAD: Final = ("queue", "is", "waiting", "running", "scheduled", "oldest")


@group()
def queue() -> None: ...


@queue.command("list", help="what waits, runs and is scheduled in each")
@patient
@as_json
def list_(timeout: float | None, as_json: bool) -> None:
    queues = Service(timeout).get("/queues")["queues"]
    if as_json:
        showing.documents(queues)
    else:
        showing.table(HEAD, rows(queues))


def rows(queues: list[dict[str, Any]]) -> Iterator[tuple[object, ...]]:
    for each in queues:
        oldest = showing.span(each["oldest"]) if showing.is_terminal() else each["oldest"]
        yield each["queue"], pause_resume.state(each), each["waiting"], each["running"], each["scheduled"], oldest


@queue.command(help="start nothing of a queue any more; what runs goes on")
@click.argument("name", shell_complete=suggest.queues)
@pause_resume.explained
@patient
@as_json
def pause(name: str, reason: str | None, until: str | None, timeout: float | None, as_json: bool) -> None:
    _show(pause_resume.pause("queues", name, timeout, reason, until), as_json)


@queue.command(help="let tasks of a queue start again")
@click.argument("name", shell_complete=suggest.queues)
@patient
@as_json
def resume(name: str, timeout: float | None, as_json: bool) -> None:
    _show(pause_resume.resume("queues", name, timeout), as_json)


def _show(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        showing.document(found)
    else:
        showing.table(HEAD, rows([found]))
