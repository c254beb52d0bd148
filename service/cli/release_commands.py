"""`sandbox release`: what was proved on the first stage, and brings one of them to the second."""

from typing import Final

import click

from service.cli import following, showing, waits
from service.cli.caller import PATIENCE_SECONDS, Service, part
from service.cli.parsing import as_json, group, of_an_action, patient

HEAD: Final = ("release", "commit", "proved", "is")
LOST: Final = ("failed", "cancelled", "unreadable")


@group()
def release() -> None: ...


@release.command("list", help="what the first stage has proved, the newest first")
@patient
@as_json
def list_(timeout: float | None, as_json: bool) -> None:
    found = Service(timeout).get("/releases")
    if as_json:
        showing.document(found)
        return
    second, asked = found["stages"][1], found["asked"]
    for each in found["releases"]:
        is_asked = asked and asked["release"] == each["release"] and asked["state"] != "done"
        each["is"] = f"{second}: {asked['state']}" if is_asked else ""
        if each["release"] == found["current"]:
            each["is"] = ", ".join(filter(None, (f"brought to {second} last", each["is"])))
    showing.table(HEAD, [(each["release"], each["sha"][:12], each["at"], each["is"]) for each in found["releases"]])


@release.command(help="bring a release that was proved to the second stage")
@click.argument("id", metavar="RELEASE")
@of_an_action
def promote(id: str, waits_for_it: bool, follow: bool, timeout: float | None, as_json: bool) -> int:
    waits_for_it = waits_for_it or follow
    service = Service(timeout, waits.PATIENCE_SECONDS if waits_for_it else PATIENCE_SECONDS)
    begun = service.post(f"/releases/{part(id)}/promote")
    task = begun["task"]
    if waits_for_it:
        task = following.seen_to_its_end(service, task["uid"], timeout, follow=follow)
    if as_json:
        showing.document(task if waits_for_it else begun)
    elif task["status"] not in LOST:
        print(id)
    return 1 if task["status"] in LOST else 0
