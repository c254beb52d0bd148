"""The service on this host: start it, and see what it is made of."""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from service import __version__
from service.cli.parsing import Duration, Verbatim, command
from service.errors import SandboxError

if TYPE_CHECKING:
    from service.settings import Settings


@command()
def run() -> None:
    """Becomes circusd: its signals, its exit code."""
    from service.supervise.start import announce, environment, handover

    read = _checked()
    os.environ.update(environment.variables(read))
    if handover.received is None:
        announce.in_background(read)
    from service.supervise import circusd

    circusd.become(read, [str(environment.conf_folder() / "circus.ini")])


@click.command(cls=Verbatim)
def circusd(words: tuple[str, ...]) -> None:
    """The same, but what follows from the settings, and is set already, stays as it is.

    The settings themselves do not: a relative path means another folder in a process that starts elsewhere.
    """
    from service import settings
    from service.supervise import circusd
    from service.supervise.start import environment

    read = _checked()
    given = {
        name: value for name, value in os.environ.items() if name not in (*settings.texts(read), "SANDBOX_RELEASE")
    }
    os.environ.update(environment.variables(read) | given)
    circusd.become(read, words)


def _checked() -> "Settings":
    """Returns the settings when all holds that must hold before circusd starts."""
    from service import settings
    from service.supervise import private_names
    from service.supervise.start import checks

    read = settings.read(os.environ)
    private_names.check(private_names.CIRCUS)
    checks.check(read)
    return read


@command()
def check() -> None:
    """What a release checks of itself, in a process of its own: a module may end, hold up or kill that."""
    from service import settings
    from service.supervise.reload import release
    from service.supervise.start import checks, state

    read = settings.read(os.environ)
    if release.START_FOLDER in os.environ:
        _end(_checks_itself(read))
    state.refuse_unusable(read)
    print(checks.check_release(read))


def _checks_itself(read: "Settings") -> int:
    from service.cli import checking

    try:
        print(checking.check(read), file=sys.__stdout__)
    except SandboxError as error:
        print(f"sandbox: {error}", file=sys.__stderr__)
        return 1
    return 0


def _end(code: int) -> NoReturn:
    """Now, though threads of the task types may go on."""
    for stream in filter(None, (sys.__stdout__, sys.__stderr__)):
        stream.flush()
    os._exit(code)


@command()
@click.option("--wait", metavar="S", type=Duration(), default=0.0, help="ask again for so many seconds")
def ready(wait: float) -> None:
    from service import settings
    from service.supervise.start import announce

    read = settings.read(os.environ)
    until = time.monotonic() + wait
    while (problem := announce.problem(read)) is not None:
        if time.monotonic() >= until:
            raise SandboxError(f"{read.url} is not ready: {problem}")
        time.sleep(announce.LOOK_SECONDS)


@command()
def env() -> None:
    from service import settings
    from service.supervise.start import environment

    print(environment.exports(settings.read(os.environ), os.environ, Path(sys.argv[0])))


@command()
def path() -> None:
    from service.supervise.start import environment

    print(environment.conf_folder())


@command()
def version() -> None:
    print(f"sandbox {__version__}")
