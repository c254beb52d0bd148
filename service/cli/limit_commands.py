"""`sandbox limit`: how many tasks of one key may run at once, or start in a time."""

from collections.abc import Iterator
from typing import Any, Final

import click

from service.cli import showing, suggest
from service.cli.caller import Service, part
from service.cli.parsing import as_json, group, patient

HEAD: Final = ("limit", "is", "key", "waiting", "keys", "types")
BOUND: Final = {"concurrency": int, "rate": str, "burst": int}
NO_BOUNDS: Final = dict.fromkeys(BOUND)


@group()
def limit() -> None: ...


@limit.command("list", help="what each says, how many tasks wait at it, and which types name it")
@patient
@as_json
def list_(timeout: float | None, as_json: bool) -> None:
    limits = Service(timeout).get("/limits")["limits"]
    if as_json:
        showing.documents(limits)
    else:
        showing.table(HEAD, _rows(limits))


def _rows(limits: list[dict[str, Any]]) -> Iterator[tuple[object, ...]]:
    for each in limits:
        yield each["limit"], _is(each), each["key"] or "", each["waiting"], each["keys"], ", ".join(each["types"])


def _is(each: dict[str, Any]) -> str:
    if not each["set"]:
        return "not set"
    number = len(each["overrides"])
    overrides = f"; {number} key{'s' if number > 1 else ''} otherwise" if number else ""
    return _bounds(each) + overrides


def _bounds(each: dict[str, Any]) -> str:
    said = []
    if each["concurrency"] is not None:
        said.append(f"{each['concurrency']} at once")
    if each["rate"] is not None:
        said.append(each["rate"] + (f", {each['burst']} at first" if each["burst"] else ""))
    return "; ".join(said)


@limit.command(help="one, with the bounds of single keys")
@click.argument("name", shell_complete=suggest.limits)
@patient
@as_json
def show(name: str, timeout: float | None, as_json: bool) -> None:
    found = Service(timeout).get(f"/limits/{part(name)}")
    if as_json:
        showing.document(found)
    else:
        showing.fields(_fields(found))


def _fields(found: dict[str, Any]) -> Iterator[tuple[str, object]]:
    yield "limit", found["limit"]
    yield "is", _bounds(found) if found["set"] else "not set"
    for field in ("key", "waiting", "keys"):
        yield field, found[field]
    yield "types", ", ".join(found["types"])
    for value, own in found["overrides"].items():
        yield f"of {value}", _bounds({**NO_BOUNDS, **own})


@limit.command("set", help="set a limit, in place of what it said before")
@click.argument("name", shell_complete=suggest.limits)
@click.option("--key", help="by what it counts, as in args.customer; without it, all tasks together")
@click.option("--concurrency", type=int, help="so many of a key run at once")
@click.option("--rate", help="so many of a key start in a time, as in 100/minute")
@click.option("--burst", type=int, help="so many of those may start at once after a quiet time")
@click.option(
    "--for",
    "overrides",
    metavar="VALUE:NAME=N[,NAME=N]",
    multiple=True,
    help="bounds of one key's own, as in acme:concurrency=5",
)
@patient
@as_json
def set_(name: str, overrides: tuple[str, ...], timeout: float | None, as_json: bool, **rule: object) -> None:
    body = {field: value for field, value in rule.items() if value is not None}
    if overrides:
        body["overrides"] = dict(map(_override, overrides))
    _show(Service(timeout).put(f"/limits/{part(name)}", body), as_json)


def _override(text: str) -> tuple[str, dict[str, object]]:
    value, colon, bounds = text.rpartition(":")
    try:
        pairs = [pair.split("=", 1) for pair in bounds.split(",")]
        found = {field: BOUND[field](given) for field, given in pairs}
    except (KeyError, ValueError):
        found = {}
    if not colon or not found:
        raise click.BadParameter(f"{text!r}: as in acme:concurrency=5 or acme:rate=10/second,burst=3")
    return value, found


@limit.command(help="remove a limit; who waits at it runs")
@click.argument("name", shell_complete=suggest.limits)
@patient
@as_json
def remove(name: str, timeout: float | None, as_json: bool) -> None:
    if (found := Service(timeout).remove(f"/limits/{part(name)}")) is not None:
        _show(found, as_json)


def _show(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        showing.document(found)
    else:
        showing.table(HEAD, _rows([found]))
