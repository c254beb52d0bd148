"""`sandbox schedule`: what creates tasks at times."""

import os
from collections.abc import Iterable, Iterator
from typing import Any, Final

import click

from service.cli import arguments, showing, suggest
from service.cli.caller import Service, part
from service.cli.parsing import Duration, as_json, group, patient

HEAD: Final = ("schedule", "is", "type", "when", "next", "last", "fired", "skipped", "missed")
named = click.argument("name", shell_complete=suggest.schedules)


@group()
def schedule() -> None: ...


@schedule.command("list", help="what there is, and when each is due next")
@patient
@as_json
def list_(timeout: float | None, as_json: bool) -> None:
    found = Service(timeout).get("/schedules")["schedules"]
    if as_json:
        showing.documents(found)
    else:
        showing.table(HEAD, rows(found))


@schedule.command(help="one, with its next five times")
@named
@patient
@as_json
def show(name: str, timeout: float | None, as_json: bool) -> None:
    found = Service(timeout).get(f"/schedules/{part(name)}")
    if as_json:
        showing.document(found)
    else:
        showing.fields(_fields(found))


@schedule.command(help="make one, or change it; NAME=VALUE is an argument of its tasks, NAME:=JSON one that is no text")
@named
@click.argument("type_name", metavar="TYPE", shell_complete=suggest.types)
@click.argument("words", metavar="[NAME=VALUE]...", nargs=-1)
@click.option("--cron", metavar="LINE", help="five fields, as in '0 3 * * *', or @daily and its kin")
@click.option("--every", metavar="TIME", type=Duration(), help="instead: every so long (seconds, or as in 5m)")
@click.option("--timezone", metavar="ZONE", help="of the cron line, as in Europe/Prague; without it UTC")
@click.option("--args", "given", metavar="JSON", help="all arguments as a JSON object; - reads it from standard input")
@click.option("--queue", help="another one than the type's")
@click.option("--overlap", metavar="skip|queue|allow|cancel", help="while the task before runs; without it skip")
@click.option("--catch-up", metavar="TIME", type=Duration(), help="how late a task may be created; without it 5m")
@click.option("--jitter", metavar="TIME", type=Duration(), help="by up to how long each task is put off")
@click.option("--paused", is_flag=True, default=None, help="it creates nothing before it is resumed")
@patient
@as_json
def put(
    name: str,
    type_name: str,
    words: tuple[str, ...],
    given: str | None,
    timeout: float | None,
    as_json: bool,
    **options: Any,
) -> None:
    service = Service(timeout)
    args = arguments.given(given)
    if words:
        args |= arguments.read(words, _schema(service, type_name))
    said = {option: value for option, value in options.items() if value is not None}
    _show(service.put(f"/schedules/{part(name)}", {"type": type_name, "args": args, **said}), as_json)


@schedule.command(help="create a task of it for now, beside its times; prints the task's UID")
@named
@click.option("--key", help="of your own: with the same one, the same task is not created twice")
@patient
@as_json
def run(name: str, key: str | None, timeout: float | None, as_json: bool) -> None:
    made = Service(timeout).post(f"/schedules/{part(name)}/run", key=os.urandom(16).hex() if key is None else key)
    if as_json:
        showing.document(made)
    else:
        print(showing.clean(made["uid"]))


@schedule.command(help="create nothing any more; what was created goes on")
@named
@patient
@as_json
def pause(name: str, timeout: float | None, as_json: bool) -> None:
    _show(Service(timeout).post(f"/schedules/{part(name)}/pause", again=True), as_json)


@schedule.command(help="go on with the next time")
@named
@patient
@as_json
def resume(name: str, timeout: float | None, as_json: bool) -> None:
    _show(Service(timeout).post(f"/schedules/{part(name)}/resume", again=True), as_json)


@schedule.command(help="remove one; its tasks stay")
@named
@patient
def delete(name: str, timeout: float | None) -> None:
    Service(timeout).remove(f"/schedules/{part(name)}")


def _schema(service: Service, type_name: str) -> dict[str, Any]:
    """Without such a type the service says so."""
    types = service.get("/types")["types"]
    return next((each["args"] for each in types if each["type"] == type_name), {})


def rows(found: Iterable[dict[str, Any]]) -> Iterator[tuple[object, ...]]:
    for each in found:
        following = each["next"][0] if each["next"] else None
        last = each["last"] and each["last"]["scheduled_for"]
        moments = (following, last) if not showing.is_terminal() else (showing.ago(following), showing.ago(last))
        counts = each["fired"], each["skipped"], each["missed"]
        yield each["name"], _is(each), each["type"], each["words"], *moments, *counts


def _is(each: dict[str, Any]) -> str:
    if each["orphan"]:
        return "orphan"
    return "paused" if each["paused"] else "on"


def _fields(found: dict[str, Any]) -> Iterator[tuple[str, object]]:
    yield "is", _is(found)
    for name, value in found.items():
        if name == "next":
            for time in value:
                yield "next", time
        elif value not in (None, "", {}) and name not in ("orphan", "paused"):
            yield name, showing.compact(value)


def _show(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        showing.document(found)
    else:
        showing.table(HEAD, rows([found]))
