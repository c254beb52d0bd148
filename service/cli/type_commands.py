"""`sandbox types`: of the release on this host, also when nothing runs; or of the service, if that is asked for. And
`sandbox type`: whether tasks of one may start.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from service.cli import pause_resume, showing, suggest
from service.cli.parsing import as_json, command, group, patient

if TYPE_CHECKING:
    from service.settings import Settings


HEAD: Final = ("type", "queue", "is")


@command()
@click.argument("name", required=False, shell_complete=suggest.types)
@patient
@as_json
def types(name: str | None, timeout: float | None, as_json: bool) -> None:
    if name is None and not as_json and not os.environ.get("SANDBOX_URL"):
        _print_those_of_the_release()
        return
    from service.cli.caller import NOT_FOUND, CallFailed, Service

    answer = Service(timeout).get("/types")
    found = [each for each in [*answer["types"], *map(_as_stuck, answer["stuck"])] if name in (None, each["type"])]
    if name and not found:
        raise CallFailed(f"no type is called {name!r}. `sandbox types` lists them.", NOT_FOUND)
    if as_json:
        showing.documents(found)
    elif name:
        for each in found:
            _describe(each)
    else:
        _list(found)


def _as_stuck(each: dict[str, Any]) -> dict[str, Any]:
    """A type that no runner knows, as one that the service knows."""
    return {"type": each["type"], "queue": each["queue"], "stuck": {"tasks": each["tasks"], "since": each["since"]}}


def _list(found: Sequence[dict[str, Any]]) -> None:
    showing.table(HEAD, ((each["type"], each.get("queue"), _state(each)) for each in found))


def _state(each: dict[str, Any]) -> str:
    if stuck := each.get("stuck"):
        return f"stuck since {stuck['since']}: {stuck['tasks']} tasks"
    return pause_resume.state(each)


def _describe(each: dict[str, Any]) -> None:
    showing.fields((field, showing.compact(value)) for field, value in each.items() if field != "args" and value)
    schema = each.get("args", {})
    rows = [_argument(argument, of, schema) for argument, of in schema.get("properties", {}).items()]
    if rows:
        print()
        showing.table(("argument", "kind", "if not sent", "says"), rows)


def _argument(name: str, of: dict[str, Any], schema: dict[str, Any]) -> tuple[object, ...]:
    from service.cli.arguments import kinds

    kind = " or ".join(sorted(kinds(of, schema.get("$defs", {})))) or "anything"
    without = "required" if name in schema.get("required", ()) else showing.compact(of.get("default"))
    return name, kind, without, of.get("description")


@group(name="type")
def type_() -> None: ...


@type_.command(help="start nothing of a type any more, in no queue; what runs goes on")
@click.argument("name", shell_complete=suggest.types)
@pause_resume.explained
@patient
@as_json
def pause(name: str, reason: str | None, until: str | None, timeout: float | None, as_json: bool) -> None:
    _show(pause_resume.pause("types", name, timeout, reason, until), as_json)


@type_.command(help="let tasks of a type start again")
@click.argument("name", shell_complete=suggest.types)
@patient
@as_json
def resume(name: str, timeout: float | None, as_json: bool) -> None:
    _show(pause_resume.resume("types", name, timeout), as_json)


def _show(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        showing.document(found)
    else:
        _list([found])


def _print_those_of_the_release() -> None:
    from service.cli import task_modules

    read = _in_the_release("types")
    for task_type in task_modules.placed(task_modules.load(read.tasks), read.all_queues):
        print(f"{task_type.name}\t{task_type.queue}")


def _in_the_release(word: str) -> "Settings":
    """Returns the settings in a process of the release; another one becomes that process: the release's own Python
    finds what it will find when it serves.
    """
    from service import settings
    from service.supervise.reload import release as releases
    from service.supervise.start import environment

    read = settings.read(os.environ)
    if releases.START_FOLDER not in os.environ:
        release = releases.find(read.release or environment.conf_folder())
        variables = release.environment({**os.environ, **settings.texts(read)}, os.getcwd())
        os.chdir(release.path)
        os.execve(release.python, [str(release.python), "-P", "-m", "service.cli", word], variables)
    return read
