"""`sandbox task`: what clients do with tasks, over HTTP."""

import itertools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import click

from service.cli import arguments, following, selecting, showing, suggest, together, waits
from service.cli.caller import CONFLICT, PATIENCE_SECONDS, CallFailed, Service, part
from service.cli.parsing import Duration, as_json, group, patient

OPTIONS: Final = {"task_timeout": "timeout"}  # those that the interface names otherwise
HEAD: Final = ("uid", "type", "queue", "status", "created", "took", "says")

Act = Callable[[Service, str], Any]
uids_argument = click.argument("uids", metavar="UID...", nargs=-1, required=True)


@group()
def task() -> None: ...


@task.command(help="create a task; NAME=VALUE is an argument of it, NAME:=JSON one that is no text")
@click.argument("type_name", metavar="TYPE", shell_complete=suggest.types)
@click.argument("words", metavar="[NAME=VALUE]...", nargs=-1)
@click.option("--args", "given", metavar="JSON", help="all arguments as a JSON object; - reads it from standard input")
@click.option("--queue", help="another one than the type's")
@click.option("--priority", metavar="high|normal|low", help="another one than the type's")
@click.option("--delay", metavar="TIME", type=Duration(), help="how long it is to wait (seconds, or as in 5m)")
@click.option("--run-at", metavar="MOMENT", help="when it is due, as in 2026-12-24T18:00:00+01:00")
@click.option("--max-attempts", metavar="N", type=int, help="how often it may fail before it has failed for good")
@click.option("--task-timeout", metavar="TIME", type=Duration(), help="for each attempt")
@click.option("--unique", metavar="KEY", help="only one task of the type with this key is there at a time")
@click.option("--unique-by", multiple=True, metavar="NAME", help="the same, with the value of this argument as the key")
@click.option("--until", metavar="finished|started", help="how long it has that key")
@click.option("--on-conflict", metavar="return|reject|replace|keep_last", help="what if another task has the key")
@click.option("--key", help="of your own: with the same one, the same task is not created twice")
@click.option("--wait", "waits_for_it", is_flag=True, help="wait for its end, and print the result")
@click.option("--follow", is_flag=True, help="as --wait, and show its log and progress on the way")
@patient
@as_json
def create(
    type_name: str,
    words: tuple[str, ...],
    given: str | None,
    key: str | None,
    waits_for_it: bool,
    follow: bool,
    timeout: float | None,
    as_json: bool,
    **options: Any,
) -> int:
    waits_for_it = waits_for_it or follow
    service = Service(timeout, waits.PATIENCE_SECONDS if waits_for_it else PATIENCE_SECONDS)
    args = arguments.given(given)
    if words:
        args |= arguments.read(words, _schema(service, type_name))
    said = {OPTIONS.get(name, name): value for name, value in _unique(options).items() if value is not None}
    key = os.urandom(16).hex() if key is None else key
    created = service.post("/tasks", {"type": type_name, "args": args, **said}, key=key)
    if not waits_for_it:
        _show_created(created, as_json)
        return 0
    showing.tell(f"the task {created['uid']} is {created['status']} in the queue {created['queue']}")
    return _show_end(_ended(service, created["uid"], timeout, follow), as_json)


def _unique(options: dict[str, Any]) -> dict[str, Any]:
    """With the four options about the unique key as one object."""
    key, names = options.pop("unique"), options.pop("unique_by")
    rule = {name: value for name in ("until", "on_conflict") if (value := options.pop(name)) is not None}
    if key and names:
        raise click.UsageError("--unique or --unique-by, not both.")
    if key or names:
        return options | {"unique": {"key": key or {"args": list(names)}, **rule}}
    if rule:
        raise click.UsageError("say of what there is to be one: --unique or --unique-by.")
    return options


def _schema(service: Service, type_name: str) -> dict[str, Any]:
    """Of an unknown type nothing is known; creating it tells which there are."""
    types = service.get("/types")["types"]
    return next((each["args"] for each in types if each["type"] == type_name), {})


def _show_created(created: dict[str, Any], as_json: bool) -> None:
    if as_json:
        showing.document(created)
        return
    print(showing.clean(created["uid"]), flush=True)
    if showing.is_terminal():
        showing.tell(f"{created['type']} is {created['status']} in the queue {created['queue']}")


@task.command(help="show tasks")
@uids_argument
@patient
@as_json
def get(uids: tuple[str, ...], timeout: float | None, as_json: bool) -> None:
    service = Service(timeout)
    for number, text in enumerate(uids):
        found = service.get(f"/tasks/{part(selecting.uid(service, text))}")
        if as_json:
            showing.document(found)
            continue
        if number:
            print()
        showing.fields(_fields(found))


def _fields(document: dict[str, Any]) -> Iterator[tuple[str, object]]:
    """For people, without what says nothing."""
    for name, value in document.items():
        if value or name in ("status", "args") or not showing.is_terminal():
            yield name, showing.compact(value)


@task.command(help="wait for the end of tasks, and print their results; exit code 1 if one has not succeeded")
@uids_argument
@click.option("--follow", is_flag=True, help="show their logs and progress on the way")
@patient
@as_json
def wait(uids: tuple[str, ...], follow: bool, timeout: float | None, as_json: bool) -> int:
    service = Service(timeout, waits.PATIENCE_SECONDS)
    return max([_show_end(_ended(service, uid, timeout, follow), as_json) for uid in uids])


def _ended(service: Service, text: str, timeout: float | None, follow: bool) -> dict[str, Any]:
    """Its document, when it has ended. Its log goes beside the result, on standard error."""
    uid = selecting.uid(service, text)
    if follow:
        return following.to_its_end(service, uid, timeout, lambda line: showing.log_line(line, sys.stderr))
    return waits.until_ended(service, uid, timeout)


@task.command(help="print what a task has logged")
@click.argument("uid")
@click.option("-f", "--follow", is_flag=True, help="go on until its end")
@patient
@as_json
def log(uid: str, follow: bool, timeout: float | None, as_json: bool) -> None:
    def show(line: dict[str, Any]) -> None:
        if as_json:
            showing.documents([line])
        else:
            showing.log_line(line, sys.stdout)

    service = Service(timeout, waits.PATIENCE_SECONDS if follow else PATIENCE_SECONDS)
    uid = selecting.uid(service, uid)
    if follow:
        following.to_its_end(service, uid, timeout, show)
        return
    found = service.get(f"/tasks/{part(uid)}/log")
    if found["dropped"]:
        showing.tell(f"{found['dropped']} older lines are gone")
    for line in found["lines"]:
        show(line)


def _show_end(document: dict[str, Any], as_json: bool) -> int:
    """The result on standard output, everything else beside it."""
    status, error = document["status"], document["error"]
    if as_json:
        showing.document(document)
    elif status == "succeeded":
        showing.document(document["result"])
    elif status == "cancelled":
        showing.tell(f"the task {document['uid']} was cancelled")
    else:
        became = "has failed" if status == "failed" else "cannot be read"
        showing.tell(f"the task {document['uid']} {became}: {_told(error)}")
    return 0 if status == "succeeded" else 1


def _told(error: dict[str, Any] | None) -> str:
    return showing.clean(f"{error['type']}: {error['message']}") if error else ""


@task.command("list", help="list tasks, the newest first")
@selecting.filters
@click.option(
    "--limit", metavar="N", type=click.IntRange(min=1), default=50, show_default=True, help="how many at most"
)
@patient
@as_json
def list_(limit: int, timeout: float | None, as_json: bool, **given: Any) -> None:
    service = Service(timeout)
    found = itertools.islice(selecting.tasks(service, selecting.as_query(service, given), limit), limit)
    if as_json:
        showing.documents(found)
    else:
        showing.table(HEAD, map(_row, found))


def _row(document: dict[str, Any]) -> Sequence[object]:
    created, took = document["created_at"], document["duration"]
    if showing.is_terminal():
        created, took = showing.ago(created), showing.span(took)
    progress = document["progress"] or {}
    says = _told(document["error"]) or progress.get("message")
    return (
        selecting.shown(document["uid"]),
        document["type"],
        document["queue"],
        document["status"],
        created,
        took,
        says,
    )


@task.command(help="cancel tasks, or all that the options show")
@click.argument("uids", metavar="[UID]...", nargs=-1)
@selecting.filters
@selecting.of_many
@patient
@as_json
def cancel(uids: tuple[str, ...], timeout: float | None, as_json: bool, **given: Any) -> int:
    def one(service: Service, uid: str) -> Any:
        """One that was cancelled already is as it should be: the answer to an earlier try may have been lost."""
        try:
            return service.delete(f"/tasks/{part(uid)}")
        except CallFailed as error:
            found = service.get(f"/tasks/{part(uid)}") if error.exit_code == CONFLICT else {}
            if found.get("status") == "cancelled":
                return found
            raise

    return _some("cancel", uids, one, given, timeout, as_json)


@task.command(help="run tasks again that have failed, or were cancelled, or all such that the options show")
@click.argument("uids", metavar="[UID]...", nargs=-1)
@selecting.filters
@selecting.of_many
@patient
@as_json
def retry(uids: tuple[str, ...], timeout: float | None, as_json: bool, **given: Any) -> int:
    def one(service: Service, uid: str) -> Any:
        return service.post(f"/tasks/{part(uid)}/retry")

    return _some("retry", uids, one, given, timeout, as_json)


@task.command(help="remove tasks that have finished, or cannot be read, before their time")
@uids_argument
@patient
@as_json
def purge(uids: tuple[str, ...], timeout: float | None, as_json: bool) -> int:
    def one(service: Service, uid: str) -> Any:
        return service.remove(f"/tasks/{part(uid)}?purge")

    return _one_by_one(Service(timeout), uids, one, "removed", as_json)


def _some(
    word: str, uids: tuple[str, ...], one: Act, given: dict[str, Any], timeout: float | None, as_json: bool
) -> int:
    dry_run, yes = given.pop("dry_run"), given.pop("yes")
    service = Service(timeout)
    only = selecting.as_body(service, given)
    if bool(uids) == bool(only):
        raise click.UsageError("name either tasks or, with options, which ones are meant.")
    if only:
        return together.act(word, only, dry_run=dry_run, yes=yes, timeout=timeout, as_json=as_json)
    if dry_run:
        raise click.UsageError("--dry-run counts what options show; it takes no UID.")
    return _one_by_one(service, uids, one, together.DONE[word], as_json)


def _one_by_one(service: Service, uids: Iterable[str], one: Act, done: str, as_json: bool) -> int:
    """All of them, whatever becomes of each; the exit code is that of the last failure."""
    code = 0
    for text in uids:
        try:
            uid = selecting.uid(service, text)
            changed = one(service, uid)
        except CallFailed as error:
            showing.tell(str(error))
            code = error.exit_code
            continue
        if not as_json:
            print(f"{showing.clean(uid)}\t{done}")
        elif changed is not None:
            showing.document(changed)
    return code
