"""The commands: `fab -r deploy STAGE COMMAND`. Each is a few words for rollout/roll.py, which does the work."""

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from invoke import Collection, Context, Exit, ParseError, Task, program, task

from rollout import index, interrupts, order, plan, report, scaffold, show, stage, tasks, templates
from rollout.errors import DeployError, UsageError
from rollout.releases import checked
from rollout.roll import Roll

FOLDER = Path(__file__).resolve().parent
WAIT = {"lock_wait": "seconds to wait for the lock of another deploy"}
OVERWRITE = {"overwrite": "replace files that somebody has changed on the host"}
RESTART = {"restart": "replace circusd itself, too, with the settings of now: no request is refused"}
chosen: list[str] = []


def command(**options: Any) -> Callable[[Callable[..., None]], Task]:
    """A task whose errors end fab with their message and exit code."""

    def make(body: Callable[..., None]) -> Task:
        @functools.wraps(body)
        def call(*words: Any, **named: Any) -> None:
            try:
                body(*words, **named)
            except DeployError as error:
                report.warning(f"fab: {error}")
                raise Exit(code=error.code) from error
            except KeyboardInterrupt as error:
                report.warning(f"fab: {error or 'interrupted'}")
                raise Exit(code=DeployError.code) from error

        made: Task = task(**options)(call)
        return made

    return make


def roll(lock_wait: int = 0) -> Roll:
    return Roll(the_stage(), lock_wait)


def the_stage() -> stage.Stage:
    if len(chosen) != 1:
        raise UsageError(f"name one stage before the command: {', '.join(stage.names(FOLDER))}")
    return stage.read(FOLDER, chosen[0])


@command(help=WAIT | OVERWRITE)
def setup(_: Context, overwrite: bool = False, lock_wait: int = 0) -> None:
    """Make hosts ready: users, folders, settings, init script, nginx. Twice is once."""
    roll(lock_wait).setup(overwrite=overwrite)


WHAT = {
    "ref": "deploy this branch, tag or commit, and not the one that the stage's file names",
    "release": "deploy this release, which was built in this folder before, perhaps for another stage",
}


@command(help=WAIT | RESTART | WHAT)
def deploy(
    _: Context, restart: bool = False, lock_wait: int = 0, ref: str | None = None, release: str | None = None
) -> None:
    """Build the stage's ref, put it on all hosts, prove it; take it back if it does not work."""
    if ref and release:
        raise UsageError("a release was built of a commit already: name --ref or --release, not both")
    if release:
        roll(lock_wait).carry(checked(release), restart=restart)
    else:
        Roll(stage.of_ref(the_stage(), ref), lock_wait).deploy(restart=restart)


BACK = {"to": "the release to go back to", "keep_good": "do not mark the release that is left as bad"}


@command(help=WAIT | RESTART | BACK)
def rollback(
    _: Context, to: str | None = None, keep_good: bool = False, restart: bool = False, lock_wait: int = 0
) -> None:
    """Go back to the newest good release before the current one."""
    roll(lock_wait).rollback(to=to and checked(to), keep_good=keep_good, restart=restart)


@command()
def releases(_: Context) -> None:
    """List the releases on each host."""
    show.releases(roll())


@command()
def status(_: Context) -> None:
    """What is current and what serves; exit code 1 if a host is not ready."""
    show.status(roll())


@command(help=WAIT)
def restart(_: Context, lock_wait: int = 0) -> None:
    """Replace circusd itself, host by host, with the settings of now. No request is refused."""
    roll(lock_wait).restart()


@command(help={"lines": "how many of each log", "follow": "and what comes, until Ctrl-C"})
def logs(_: Context, lines: int = 20, follow: bool = False) -> None:
    """Show the last lines of the service's logs, of all hosts."""
    show.log_lines(roll(), lines, follow=follow)


@command(name="plan")
def show_plan(_: Context) -> None:
    """What a deploy would change and do. Only reads, and leaves the hosts as they are."""
    plan.show(roll())


@command(help={"folder": "of the other project"}, positional=["folder"])
def init(_: Context, folder: str) -> None:
    """Write deploy/ for another project: settings, stages, templates, tasks. What is there is left."""
    for path, outcome in scaffold.write(FOLDER, Path(folder)):
        print(f"{outcome:<8} {path}")


def setup_index(_: Context, overwrite: bool = False) -> None:
    """Set up the team's package index, on the host that [index] names. Twice is once."""
    index.setup(roll().stage, overwrite=overwrite)


@command(help={"reason": "until when, and why"}, positional=["reason"])
def lock(_: Context, reason: str) -> None:
    """Let nobody deploy until `unlock`."""
    if not reason.strip():
        raise UsageError("say why: fab STAGE lock 'freeze until Monday'")
    roll().freeze(reason)


@command()
def unlock(_: Context) -> None:
    """End what `lock` began."""
    roll().freeze("")


class Parser(program.Parser):  # type: ignore[misc]
    """What cannot be meant ends fab with 2, before anything is done."""

    def parse_argv(self, words: list[str]) -> Any:
        try:
            parsed = super().parse_argv(words)
        except (ParseError, ValueError) as error:
            raise Exit(f"fab: {error} (fab -r deploy --list; fab -r deploy --help COMMAND)", UsageError.code) from error
        if not any(parsed[0].args[flag].value for flag in ("help", "list", "complete")):
            _check([context.name for context in parsed[1:]])
        return parsed


def _check(names: list[str]) -> None:
    stages = stage.names(FOLDER)
    if names == ["init"]:  # for another project
        return
    if names and (names[0] not in stages or sum(name in stages for name in names) != 1):
        raise Exit(f"fab: name one stage before the command: {', '.join(stages)}", UsageError.code)
    if len(names) == 1:
        raise Exit(f"fab: say what to do on {names[0]}: fab -r deploy --list shows what there is", UsageError.code)


program.Parser = Parser
interrupts.hear()


@command()
def balancer(_: Context) -> None:
    """Print a site for an nginx in front of all hosts. Connects to nobody."""
    print(templates.balancer(the_stage()), end="")


def stage_task(name: str) -> Task:
    def choose(_: Context) -> None:
        chosen.append(name)

    choose.__doc__ = f"Work on the stage {name} (stages/{name}.toml)."
    return Task(choose, name=name)


NEWEST = {
    **dict.fromkeys(("upload", "install"), "the newest that was built here"),
    **dict.fromkeys(order.PUT, "the newest that is complete and good on all hosts"),
}


def phase_task(name: str, full_name: str) -> Task:
    def run(_: Context, release: str | None = None, lock_wait: int = 0) -> None:
        roll(lock_wait).phase(name, release and checked(release))

    run.__doc__ = f"The phase {name} alone."
    named = {"release": f"the release; without it, {NEWEST.get(name, 'the newest unfinished one')}"}
    return command(name=full_name, help=WAIT | named)(run)


def phase_names() -> tuple[str, ...]:
    try:
        return tasks.load(FOLDER, stage.tasks(FOLDER)).order(order.ALL)
    except DeployError as error:
        print(f"fab: {error}", file=sys.stderr)
        sys.exit(error.code)


namespace = Collection(setup, rollback, releases, status, show_plan, restart, logs, lock, unlock, init, balancer)
for name in stage.names(FOLDER):
    namespace.add_task(stage_task(name))
alone = Collection("deploy")
alone.add_task(deploy, default=True)
for name in phase_names():
    namespace.add_task(phase_task(name, f"deploy:{name}"))
    alone.add_task(phase_task(name, name))
namespace.add_collection(alone)
more = Collection("index")
more.add_task(command(name="setup", help=OVERWRITE)(setup_index))
namespace.add_task(command(name="index:setup", help=OVERWRITE)(setup_index))
namespace.add_collection(more)
