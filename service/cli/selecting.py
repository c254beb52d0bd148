"""Which tasks are meant: filters as options, the beginning of a UID, and the pages of the list."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import click

from service.cli import showing, suggest
from service.cli.caller import MISUSED, NOT_FOUND, CallFailed, Service
from service.cli.parsing import Decorated

PAGE: Final = 100
UID_LENGTH: Final = 64
SHORTEST_BEGINNING: Final = 8
SHOWN_BEGINNING: Final = 12
STATUSES: Final = ("scheduled", "queued", "running", "succeeded", "failed", "cancelled", "unreadable")
NAMES: Final = {"type_name": "type"}  # those that the interface names otherwise
OPTIONS: Final = (
    click.option("--status", multiple=True, type=click.Choice(STATUSES), metavar="STATUS"),
    click.option("--type", "type_name", multiple=True, shell_complete=suggest.types),
    click.option("--queue", multiple=True, shell_complete=suggest.queues),
    click.option("--created-by", metavar="NAME", help="of whose token"),
    click.option("--created-after", metavar="MOMENT", help="as in 2026-12-24T18:00:00+01:00"),
    click.option("--created-before", metavar="MOMENT"),
    click.option("--error", metavar="TYPE", help="of the error, as in KeyError"),
    click.option("--parent", metavar="UID", help="of the task that created them; its beginning will do"),
    click.option("--schedule", metavar="NAME", shell_complete=suggest.schedules, help="that created them"),
    click.option("--q", metavar="TEXT", help="the beginning of a UID, or args.NAME=VALUE"),
)


def filters(function: Decorated) -> Decorated:
    """What may be given several times means any of them."""
    for option in reversed(OPTIONS):
        function = option(function)
    return function


def of_many(function: Decorated) -> Decorated:
    function = click.option("--yes", is_flag=True, help="do not ask")(function)
    return click.option("--dry-run", is_flag=True, help="only count what the options show")(function)


def as_body(service: Service, options: Mapping[str, Any]) -> dict[str, Any]:
    """As the interface takes it; without those that were not given."""
    if parent := options.get("parent"):
        options = {**options, "parent": uid(service, parent)}
    return {
        NAMES.get(name, name): value if isinstance(value, str) else list(value)
        for name, value in options.items()
        if value
    }


def as_query(service: Service, options: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (name, each)
        for name, value in as_body(service, options).items()
        for each in ([value] if isinstance(value, str) else value)
    ]


def tasks(service: Service, query: list[tuple[str, str]], limit: int) -> Iterator[dict[str, Any]]:
    cursor: str | None = ""
    while cursor is not None:
        more = [("cursor", cursor)] if cursor else []
        page = service.get("/tasks", [*query, ("limit", str(min(limit, PAGE))), *more])
        yield from page["tasks"]
        cursor = page["next"]


def uid(service: Service, text: str) -> str:
    """The one that begins so. Raises CallFailed if there is none, or several."""
    if not SHORTEST_BEGINNING <= len(text) < UID_LENGTH or not set(text) <= set("0123456789abcdef"):
        return text
    found = [task["uid"] for task in tasks(service, [("q", text)], 2)]
    if not found:
        raise CallFailed(f"no task has a UID that begins with {text}.", NOT_FOUND)
    if len(found) > 1:
        raise CallFailed(f"several tasks have a UID that begins with {text}.", MISUSED)
    return str(found[0])


def shown(uid: str) -> str:
    """At a terminal a beginning, which every command takes."""
    return uid[:SHOWN_BEGINNING] if showing.is_terminal() else uid
