"""`sandbox workspace`: a person's private, running copy of a project. Each action is a task of the service."""

import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

import click

from service.cli import following, showing, waits
from service.cli.caller import PATIENCE_SECONDS, Service, part
from service.cli.parsing import as_json, group, of_an_action, patient

HEAD: Final = ("workspace", "email", "state", "step", "created", "unpushed", "address")
UNFINISHED: Final = ("scheduled", "queued", "running")
SIMPLE: Final = {
    "start": "start its web process, or wake it",
    "stop": "stop its web process until it is started again",
    "restart": "restart its web process; connections wait meanwhile",
    "update": "fast-forward its code to its branch, or say why that cannot be",
    "test": "run the project's tests in it",
}

named = click.argument("name", metavar="WORKSPACE")


@group()
def workspace() -> None: ...


@workspace.command(help="make one for an email, or show that it is there; prints its name")
@click.argument("email")
@click.option("--take-over", is_flag=True, help="also a branch of that name that somebody else has made")
@of_an_action
def create(email: str, take_over: bool, **how: Any) -> int:
    body = {"email": email, "take_over": take_over}
    return _act(lambda service: service.post("/workspaces", body, again=True), **how)


@workspace.command("list", help="all of them, the newest first")
@patient
@as_json
def list_(timeout: float | None, as_json: bool) -> None:
    found = Service(timeout).get("/workspaces")["workspaces"]
    if as_json:
        showing.documents(found)
    else:
        showing.table(HEAD, map(_row, found))


def _row(found: dict[str, Any]) -> tuple[object, ...]:
    created = showing.ago(found["created_at"]) if showing.is_terminal() else found["created_at"]
    names = found["slug"], found["email"], found["state"], found["step"]
    return *names, created, len(found["unpushed"]) or None, found["address"]


@workspace.command(help="show one, field by field")
@named
@patient
@as_json
def show(name: str, timeout: float | None, as_json: bool) -> None:
    found = Service(timeout).get(_path(name))
    if as_json:
        showing.document(found)
    else:
        showing.fields(_fields(found))


def _fields(found: dict[str, Any]) -> Iterator[tuple[str, object]]:
    for name, value in found.items():
        if value or not showing.is_terminal():
            yield name, showing.compact(value)


@workspace.command(help="take one away; it refuses to lose work")
@named
@click.option("--force", is_flag=True, help="also if work in it is lost by that")
@click.option("--keep-branch", is_flag=True, help="its branch stays at the origin")
@of_an_action
def delete(name: str, force: bool, keep_branch: bool, **how: Any) -> int:
    query = "&".join(["force"] * force + ["branch=keep"] * keep_branch)
    path = f"{_path(name)}{'?' if query else ''}{query}"
    return _act(lambda service: service.delete(path, again=False), **how)  # a second one would meet the first


def _simple(action: str, text: str) -> None:
    @workspace.command(action, help=text)
    @named
    @of_an_action
    def act(name: str, **how: Any) -> int:
        return _post(name, action, None, how)


for each, says in SIMPLE.items():
    _simple(each, says)


@workspace.command(help="build another virtualenv beside the one in use, and switch to it, or back")
@named
@click.option("--python", metavar="NAME", help="another Python than now")
@of_an_action
def rebuild(name: str, python: str | None, **how: Any) -> int:
    return _post(name, "rebuild", {"python": python}, how)


@workspace.command(help="go on with a creation or a deletion that has failed")
@named
@click.option("--take-over", is_flag=True, help="also with a branch of that name that somebody else has made")
@of_an_action
def resume(name: str, take_over: bool, **how: Any) -> int:
    return _post(name, "resume", {"take_over": take_over}, how)


@workspace.command(help="give a login of its host access to its files")
@named
@click.argument("login")
@of_an_action
def access(name: str, login: str, **how: Any) -> int:
    return _post(name, "access", {"login": login}, how)


@workspace.command(help="say that it is in use: it falls asleep later")
@named
@patient
@as_json
def extend(name: str, timeout: float | None, as_json: bool) -> None:
    found = Service(timeout).post(f"{_path(name)}/extend", again=True)["workspace"]
    if as_json:
        showing.document(found)
    else:
        showing.table(HEAD, [_row(found)])


@workspace.command(help="print the link by which its person sees it, without a token")
@named
@patient
def link(name: str, timeout: float | None) -> None:
    service = Service(timeout)
    print(showing.clean(f"{service.place}{service.post(f'{_path(name)}/link', again=True)['link']}"))


@workspace.command(help="print what its present or last action has logged")
@named
@click.option("-f", "--follow", is_flag=True, help="go on until its end")
@patient
@as_json
def log(name: str, follow: bool, timeout: float | None, as_json: bool) -> None:
    def tell(line: dict[str, Any]) -> None:
        if as_json:
            showing.documents([line])
        else:
            showing.log_line(line, sys.stdout)

    service = Service(timeout, waits.PATIENCE_SECONDS if follow else PATIENCE_SECONDS)
    task = service.get(_path(name))["task"] if follow else None
    if task is not None:
        following.to_its_end(service, task, timeout, tell)
        return
    for line in service.get(f"{_path(name)}/log")["lines"]:
        tell(line)


@workspace.command(help="print what root installs for the host's nginx; it reads the settings, and asks no service")
def site() -> None:
    from service import settings
    from service.cli import building

    print(building.site(settings.read(os.environ)), end="")


@workspace.command(help="stop all of them on this host, until the service starts again; it asks no service")
def halt() -> None:
    from service import settings
    from service.supervise.start import state
    from service.workspaces.places import Places
    from service.workspaces.second_control import SecondCircusd

    read = settings.read(os.environ)
    places = Places.under(read.workspaces)
    if not SecondCircusd(places.run, places.homes).halt():
        showing.tell(f"No workspace of {places.root} runs.")
        return
    showing.tell("The workspaces are stopped, as is what served them; their files stay.")
    if state.owner(read) is None:
        showing.tell("The next `sandbox run` starts them again.")
    else:
        showing.tell("The service runs, and starts them again within five minutes. To stop one: sandbox workspace stop")


def _path(name: str) -> str:
    """By its name, or by its email."""
    if "@" in name:
        from service.workspaces import names

        name = names.slug(names.email(name))
    return f"/workspaces/{part(name)}"


def _post(name: str, action: str, body: dict[str, Any] | None, how: dict[str, Any]) -> int:
    given = {field: value for field, value in (body or {}).items() if value}
    return _act(lambda service: service.post(f"{_path(name)}/{action}", given), **how)


def _act(
    ask: Callable[[Service], Any], *, waits_for_it: bool, follow: bool, timeout: float | None, as_json: bool
) -> int:
    waits_for_it = waits_for_it or follow
    service = Service(timeout, waits.PATIENCE_SECONDS if waits_for_it else PATIENCE_SECONDS)
    begun = ask(service)
    task, slug = begun["task"], begun["workspace"]["slug"]
    if not waits_for_it or task is None:
        _show(begun if as_json else begun["workspace"], task, as_json)
        return 0
    done = following.seen_to_its_end(service, task["uid"], timeout, follow=follow)
    if as_json:
        showing.document(done)
    elif done["type"] != "workspace.delete":
        showing.table(HEAD, [_row(service.get(f"/workspaces/{part(slug)}"))])
    if done["status"] == "succeeded" and done["type"] == "workspace.test" and not done["result"]["passed"]:
        showing.tell(f"the tests have failed: sandbox workspace log {showing.clean(slug)}")
        return 1
    return 0 if done["status"] == "succeeded" else 1


def _show(found: dict[str, Any], task: dict[str, Any] | None, as_json: bool) -> None:
    if as_json:
        showing.document(found)
        return
    print(showing.clean(found["slug"]), flush=True)
    if found["state"] == "failed" and (task is None or task["status"] not in UNFINISHED):
        showing.tell(f"it has failed: {showing.clean(found['error'])}")
        showing.tell(f"mend that, and go on: sandbox workspace resume {showing.clean(found['slug'])}")
    elif showing.is_terminal():
        showing.tell(f"{task['type']} is {task['status']}" if task else f"it is {found['state']} already")
