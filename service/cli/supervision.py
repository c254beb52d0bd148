"""`sandbox status` and `sandbox reload`: what circusctl does, in the words of this service."""

import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from service.cli import control, showing
from service.cli.caller import UNAVAILABLE, CallFailed, Service
from service.cli.parsing import as_json, command

if TYPE_CHECKING:
    from service.settings import Settings

WATCHERS: Final = {"web": ("sandbox",), "runner": ("sandbox-runner", "sandbox-builder")}


@command()
@as_json
def status(as_json: bool) -> int:
    found = _found()
    if as_json:
        showing.document(found)
    else:
        showing.fields(_facts(found))
        if found["watchers"]:
            print()
            showing.table(("watcher", "is", "processes", "wanted"), _rows(found["watchers"]))
    return 0 if found["ready"] else UNAVAILABLE


def _found() -> dict[str, Any]:
    """Of a service elsewhere, only what it answers."""
    service = Service(0)
    found: dict[str, Any] = {"url": str(service.place), "ready": False, "runners": None, "failing": {}}
    found |= _health(service)
    found |= {"circusd": None, "home": None, "logs": None, "watchers": {}}
    if not os.environ.get("SANDBOX_URL"):
        found |= _here(found["failing"])
    return found


def _health(service: Service) -> dict[str, Any]:
    try:
        health = service.get("/health/ready")
    except CallFailed as error:
        return {"failing": error.problem.get("failing") or {"web": str(error).partition(".\n")[0]}}
    return {"ready": True, "runners": health.get("runners"), "failing": health.get("failing", {})}


def _here(failing: dict[str, str]) -> dict[str, Any]:
    from service import settings

    read = settings.read(os.environ)
    found: dict[str, Any] = {"circusd": control.circusd(read), "home": str(read.home), "logs": str(read.logs)}
    if found["circusd"]:
        try:
            found["watchers"] = _watchers(read)
        except CallFailed as error:
            found["failing"] = {**failing, "circusd": str(error)}
    return found


def _watchers(read: "Settings") -> dict[str, dict[str, Any]]:
    statuses = control.ask(read, "status")["statuses"]
    return {name: {"status": is_, **_numbers(read, name)} for name, is_ in sorted(statuses.items())}


def _numbers(read: "Settings", name: str) -> dict[str, int]:
    running = control.ask(read, "numprocesses", name=name)["numprocesses"]
    return {"processes": running, "wanted": control.ask(read, "options", name=name)["options"]["numprocesses"]}


def _facts(found: dict[str, Any]) -> Iterator[tuple[str, object]]:
    yield "service", found["url"]
    yield "state", "ready" if found["ready"] else "not ready"
    for part, what in found["failing"].items():
        yield f"failing: {part}", what
    if found["runners"] is not None:
        yield "runners", found["runners"]
    if found["home"]:
        yield "circusd", _supervisor(found)
        yield "home", found["home"]
        yield "logs", found["logs"]


def _supervisor(found: dict[str, Any]) -> str:
    if found["circusd"]:
        return f"process {found['circusd']}"
    if found["ready"]:
        return "none on this folder: nothing that dies is replaced. `sandbox run` takes over"
    return "none. `sandbox run` starts the service"


def _rows(watchers: dict[str, dict[str, Any]]) -> Iterator[tuple[object, ...]]:
    for name, watcher in watchers.items():
        if watcher["processes"] or watcher["wanted"]:
            yield name, watcher["status"], watcher["processes"], watcher["wanted"]


@command()
@click.argument("part", metavar="[web|runner]", type=click.Choice(tuple(WATCHERS)), required=False)
@as_json
def reload(part: str | None, as_json: bool) -> None:
    """Waits for the outcome, however long that takes: circusd ends a trial by itself."""
    from service import settings

    read = settings.read(os.environ)
    if control.circusd(read) is None:
        raise CallFailed(f"no sandbox runs on {read.home}. `sandbox run` starts one.", UNAVAILABLE)
    answer: dict[str, Any] = {"reloaded": {}}
    for name in _working(read, WATCHERS[part]) if part else [None]:
        found = _told_on_the_way(read, name or "runners and web", {"name": name} if name else {})
        answer |= found | {"reloaded": answer["reloaded"] | found["reloaded"]}
    if as_json:
        showing.document(answer)
        return
    for name, outcome in answer["reloaded"].items():
        print(f"{name}: {outcome['release']} serves, after {outcome['seconds']:.1f} s")
    if "circusd" in answer:
        showing.tell(f"{answer['circusd']}. `sandbox restart` does it.")


def _working(read: "Settings", names: tuple[str, ...]) -> list[str]:
    """Those that have processes; if none has, the first: circusd says why it cannot be reloaded."""
    watchers = _watchers(read)
    return [name for name in names if name in watchers and watchers[name]["processes"]] or [names[0]]


def _told_on_the_way(read: "Settings", what: str, properties: dict[str, str]) -> dict[str, Any]:
    began = time.monotonic()
    with showing.ProgressLine() as progress:

        def tick() -> None:
            progress.show(f"{what}: on trial for {time.monotonic() - began:.0f} s of {read.reload_seconds:g}")

        return control.ask(read, "reload", tick=tick, **properties)
