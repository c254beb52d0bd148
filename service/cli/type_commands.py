"""`sandbox types`: of the release on this host, also when nothing runs; or of the service, if that is asked for."""

import os
from typing import TYPE_CHECKING, Any

import click

from service.cli import showing, suggest
from service.cli.parsing import as_json, command, patient

if TYPE_CHECKING:
    from service.settings import Settings


@command()
@click.argument("name", required=False, shell_complete=suggest.types)
@patient
@as_json
def types(name: str | None, timeout: float | None, as_json: bool) -> None:
    if name is None and not as_json and not os.environ.get("SANDBOX_URL"):
        _print_those_of_the_release()
        return
    from service.cli.caller import NOT_FOUND, CallFailed, Service

    found = [each for each in Service(timeout).get("/types")["types"] if name in (None, each["type"])]
    if name and not found:
        raise CallFailed(f"no type is called {name!r}. `sandbox types` lists them.", NOT_FOUND)
    if as_json:
        showing.documents(found)
    elif name:
        _describe(found[0])
    else:
        showing.table(("type", "queue"), ((each["type"], each["queue"]) for each in found))


def _describe(each: dict[str, Any]) -> None:
    schema = each["args"]
    showing.fields((field, showing.compact(value)) for field, value in each.items() if field != "args" and value)
    rows = [_argument(argument, of, schema) for argument, of in schema.get("properties", {}).items()]
    if rows:
        print()
        showing.table(("argument", "kind", "if not sent", "says"), rows)


def _argument(name: str, of: dict[str, Any], schema: dict[str, Any]) -> tuple[object, ...]:
    from service.cli.arguments import kinds

    kind = " or ".join(sorted(kinds(of, schema.get("$defs", {})))) or "anything"
    without = "required" if name in schema.get("required", ()) else showing.compact(of.get("default"))
    return name, kind, without, of.get("description")


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
