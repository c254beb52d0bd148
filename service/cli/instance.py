"""The service on this host: start it, and see what it is made of."""

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from service import __version__
from service.cli.parsing import Commands, add
from service.errors import SandboxError

if TYPE_CHECKING:
    from service.settings import Settings


def add_commands(commands: Commands) -> None:
    add(commands, "run", run, "start everything in the foreground; Ctrl-C stops it")
    text = "the same, with arguments of your own for circusd"
    circusd = commands.add_parser("circusd", help=text, description=text, add_help=False, prefix_chars="\0")
    circusd.add_argument("words", nargs="*")
    circusd.set_defaults(command=run_circusd)
    add(commands, "check", check, "check the settings and the task types")
    waits = add(commands, "ready", ready, "is the service ready? Exit code 0 if so, else 1 and the reason")
    waits.add_argument("--wait", metavar="S", type=float, default=0.0, help="ask again for so many seconds")
    add(commands, "env", env, 'print what a shell needs: eval "$(sandbox env)"')
    add(commands, "path", path, "print the folder that holds circus.ini and conf/")
    add(commands, "types", types, "print the task types and their queues")
    add(commands, "version", version, "print the version")


def run(_: argparse.Namespace) -> int:
    """Becomes circusd: its signals, its exit code."""
    from service.supervise.start import announce, environment, handover

    read = _checked()
    os.environ.update(environment.variables(read))
    if handover.received is None:
        announce.in_background(read)
    from service.supervise import circusd

    circusd.become(read, [str(environment.conf_folder() / "circus.ini")])


def run_circusd(arguments: argparse.Namespace) -> int:
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
    circusd.become(read, arguments.words)


def _checked() -> "Settings":
    """Returns the settings when all holds that must hold before circusd starts."""
    from service import settings
    from service.supervise import private_names
    from service.supervise.start import checks

    read = settings.read(os.environ)
    private_names.check(private_names.CIRCUS)
    checks.check(read)
    return read


def check(_: argparse.Namespace) -> int:
    """What a release checks of itself, in a process of its own: a module may end, hold up or kill that."""
    from service import settings
    from service.supervise.reload import release
    from service.supervise.start import checks

    read = settings.read(os.environ)
    if release.START_FOLDER in os.environ:
        _end(_checks_itself(read))
    print(checks.check_release(read))
    return 0


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


def ready(arguments: argparse.Namespace) -> int:
    from service import settings
    from service.supervise.start import announce

    read = settings.read(os.environ)
    until = time.monotonic() + arguments.wait
    while (problem := announce.problem(read)) is not None:
        if time.monotonic() >= until:
            raise SandboxError(f"{read.url} is not ready: {problem}")
        time.sleep(announce.LOOK_SECONDS)
    return 0


def env(_: argparse.Namespace) -> int:
    from service import settings
    from service.supervise.start import environment

    print(environment.exports(settings.read(os.environ), os.environ, Path(sys.argv[0])))
    return 0


def path(_: argparse.Namespace) -> int:
    from service.supervise.start import environment

    print(environment.conf_folder())
    return 0


def types(_: argparse.Namespace) -> int:
    from service.cli import task_modules

    read = _in_the_release("types")
    for task_type in task_modules.placed(task_modules.load(read.tasks), read.all_queues):
        print(f"{task_type.name}\t{task_type.queue}")
    return 0


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


def version(_: argparse.Namespace) -> int:
    print(f"sandbox {__version__}")
    return 0
