"""The commands: `fab -r deploy STAGE COMMAND`. Each is a few words for rollout/roll.py, which does the work."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from invoke import Collection, Context, Exit, Task, task

from rollout import phases, stage, templates
from rollout.errors import DeployError, UsageError
from rollout.releases import checked
from rollout.roll import Roll

FOLDER = Path(__file__).resolve().parent
WAIT = {"lock_wait": "seconds to wait for the lock of another deploy"}
chosen: list[str] = []


def command(**options: Any) -> Callable[[Callable[..., None]], Task]:
    """A task whose errors end fab with their message and exit code."""

    def make(body: Callable[..., None]) -> Task:
        @functools.wraps(body)
        def call(*words: Any, **named: Any) -> None:
            try:
                body(*words, **named)
            except DeployError as error:
                raise Exit(f"fab: {error}", error.code) from error

        made: Task = task(**options)(call)
        return made

    return make


def roll(lock_wait: int = 0) -> Roll:
    return Roll(the_stage(), lock_wait)


def the_stage() -> stage.Stage:
    if len(chosen) != 1:
        raise UsageError(f"name one stage before the command: {', '.join(stage.names(FOLDER))}")
    return stage.read(FOLDER, chosen[0])


@command(help=WAIT | {"overwrite": "replace files that somebody has changed on the host"})
def setup(_: Context, overwrite: bool = False, lock_wait: int = 0) -> None:
    """Make hosts ready: users, folders, settings, init script, nginx. Twice is once."""
    roll(lock_wait).setup(overwrite=overwrite)


@command(help=WAIT)
def deploy(_: Context, lock_wait: int = 0) -> None:
    """Build the stage's ref, put it on all hosts, prove it; take it back if it does not work."""
    roll(lock_wait).deploy()


@command(help=WAIT | {"to": "the release to go back to", "keep_good": "do not mark the release that is left as bad"})
def rollback(_: Context, to: str | None = None, keep_good: bool = False, lock_wait: int = 0) -> None:
    """Go back to the newest good release before the current one."""
    roll(lock_wait).rollback(to=to and checked(to), keep_good=keep_good)


@command()
def releases(_: Context) -> None:
    """List the releases on each host."""
    roll().releases()


@command()
def status(_: Context) -> None:
    """What is current and what serves; exit code 1 if a host is not ready."""
    roll().status()


@command(help=WAIT)
def restart(_: Context, lock_wait: int = 0) -> None:
    """Stop and start the service, host by host: for new settings and a new circusd. Requests are refused meanwhile."""
    roll(lock_wait).restart()


@command(help={"lines": "how many of each log"})
def logs(_: Context, lines: int = 20) -> None:
    """Show the last lines of the service's logs."""
    roll().logs(lines)


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


@command()
def balancer(_: Context) -> None:
    """Print a site for an nginx in front of all hosts. Connects to nobody."""
    print(templates.balancer(the_stage()), end="")


def stage_task(name: str) -> Task:
    def choose(_: Context) -> None:
        chosen.append(name)

    choose.__doc__ = f"Work on the stage {name} (stages/{name}.toml)."
    return Task(choose, name=name)


def phase_task(name: str, full_name: str) -> Task:
    def run(_: Context, release: str | None = None, lock_wait: int = 0) -> None:
        roll(lock_wait).phase(name, release and checked(release))

    run.__doc__ = f"The phase {name} alone."
    named = {"release": "the release; without it, the newest unfinished one"}
    return command(name=full_name, help=WAIT | named)(run)


namespace = Collection(setup, rollback, releases, status, restart, logs, lock, unlock, balancer)
for name in stage.names(FOLDER):
    namespace.add_task(stage_task(name))
alone = Collection("deploy")
alone.add_task(deploy, default=True)
for name in phases.ALL:
    namespace.add_task(phase_task(name, f"deploy:{name}"))
    alone.add_task(phase_task(name, name))
namespace.add_collection(alone)
