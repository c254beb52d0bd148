"""The command `sandbox`: a module for each noun. A command's module is imported when it is called."""

import os
import sys
from collections.abc import Sequence
from typing import Final

import click

from service.cli import surroundings
from service.cli.parsing import COMPLETE, Lazy, LazyGroup
from service.cli.surroundings import FAILED, INTERRUPTED
from service.errors import SandboxError

NOBODY_READS: Final = 141  # as a shell tells SIGPIPE

COMMANDS: Final = {
    "task": Lazy("task_commands", "task", "create, look at, await, cancel, retry and remove tasks"),
    "queue": Lazy("queue_commands", "queue", "the queues: list, pause, resume"),
    "limit": Lazy("limit_commands", "limit", "how many tasks run at once, or start in a time: list, show, set, remove"),
    "schedule": Lazy("schedule_commands", "schedule", "what creates tasks at times: list, put, run, pause, delete"),
    "workspace": Lazy(
        "workspace_commands", "workspace", "people's running copies of a project: create, update, delete"
    ),
    "release": Lazy("release_commands", "release", "what the first stage has proved: list, bring it to the second"),
    "types": Lazy("type_commands", "types", "print the task types and their queues, or what one of them takes"),
    "type": Lazy("type_commands", "type_", "a task type: pause, resume"),
    "runners": Lazy("at_work", "runners", "who executes what now"),
    "top": Lazy("at_work", "top", "queues and runners, live"),
    "status": Lazy("supervision", "status", "how the service on this host is"),
    "run": Lazy("instance", "run", "start everything in the foreground; Ctrl-C stops it"),
    "reload": Lazy("supervision", "reload", "swap in the release that SANDBOX_RELEASE names; no request fails"),
    "restart": Lazy(
        "restarts",
        "restart",
        "have the service that runs take over the settings, circus.ini and code of this command; nobody is refused",
    ),
    "ready": Lazy("instance", "ready", "is the service ready? Exit code 0 if so, else 1 and the reason"),
    "check": Lazy("instance", "check", "check the settings and the task types"),
    "token": Lazy("tokens", "token", "API tokens in the file that SANDBOX_TOKENS names"),
    "backup": Lazy("backups", "backup", "copy the embedded Redis's data while it works"),
    "dashboards": Lazy("graphite_dashboards", "dashboards", "the dashboards for graphite-web"),
    "env": Lazy("instance", "env", 'print what a shell needs: eval "$(sandbox env)"'),
    "path": Lazy("instance", "path", "print the folder that holds circus.ini and conf/"),
    "completion": Lazy("completions", "completion", "print what a shell needs to complete words: bash, zsh or fish"),
    "version": Lazy("instance", "version", "print the version"),
    "circusd": Lazy("instance", "circusd", "as run, with arguments of your own for circusd"),
}

SANDBOX: Final = LazyGroup(COMMANDS, name="sandbox", help="A task service: HTTP, Redis, runners.")


def main(words: Sequence[str] | None = None) -> int:
    surroundings.mend_streams()
    try:
        code = _called(sys.argv[1:] if words is None else list(words))
        sys.stdout.flush()
        return code
    except click.UsageError as error:
        return _misused(error)
    except SandboxError as error:
        _tell(str(error))
        return getattr(error, "exit_code", FAILED)
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        _print_nothing_more()
        return NOBODY_READS
    except OSError as error:
        if _can_print():
            raise
        _print_nothing_more()
        _tell(f"standard output takes nothing more: {error.strerror}.")
        return FAILED


def _called(words: list[str]) -> int:
    if COMPLETE in os.environ:
        from click.shell_completion import shell_complete

        return shell_complete(SANDBOX, {}, "sandbox", COMPLETE, os.environ[COMPLETE])
    try:
        with SANDBOX.make_context("sandbox", words) as context:
            surroundings.refuse_nowhere()
            return int(SANDBOX.invoke(context) or 0)
    except click.exceptions.Exit as end:
        return end.exit_code


def _tell(told: str) -> None:
    from service.cli import showing

    showing.tell(told)


def _misused(error: click.UsageError) -> int:
    if error.ctx is None or isinstance(error, click.exceptions.NoArgsIsHelpError):
        print(error.format_message(), file=sys.stderr)
    else:
        print(error.ctx.get_usage(), file=sys.stderr)
        print(f"sandbox: {error.format_message()} See: {error.ctx.command_path} --help", file=sys.stderr)
    return error.exit_code


def _can_print() -> bool:
    """One line more shows whether standard output is what failed."""
    try:
        print(flush=True)
    except OSError:
        return False
    return True


def _print_nothing_more() -> None:
    """Python would write at its end what the pipe has not taken, and complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
