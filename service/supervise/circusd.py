"""The start of circusd, when the checks are made: replace what private_names.py lists, then circus's own main."""

import configparser
import shutil
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

from service.observe import audit, marks, output
from service.settings import Settings
from service.supervise import private_names
from service.supervise.private_names import CIRCUS
from service.supervise.reload import candidate
from service.supervise.start import environment, handover, state
from service.supervise.start.handover import Program

ALIVE_OF_WORKSPACES: Final = "run/alive.lock"  # what second_control.py looks at; this process imports nothing of it
WORKSPACES_RUN_ON: Final = (
    "the workspaces run on: their circusd, nginx and web processes. To stop them, too: sandbox workspace halt"
)
LEFT: Final = ("trial", handover.FOLDER)  # folders of a circusd that was killed


def become(read: Settings, words: Sequence[str]) -> NoReturn:
    """This process is circusd from here on, and ends as it does."""
    if handover.received is None:
        for name in LEFT:
            shutil.rmtree(read.sockets / name, ignore_errors=True)
        (read.sockets / candidate.SERVED).unlink(missing_ok=True)
        marks.leave(read.sockets, "started", "circusd", str(read.release or environment.conf_folder()))
    shutil.rmtree(read.sockets / "throttled", ignore_errors=True)  # this program counts anew
    private_names.replace(CIRCUS)
    _configure(read)
    from circus import circusd

    sys.argv[:] = ["circusd", *words]
    try:
        circusd.main()
    finally:
        _tell_of_workspaces(read)
        _fail_if_given_up()
    raise SystemExit


def check_configuration(read: Settings, file: str) -> None:
    """Raises SystemExit if a circusd could not load it. For a process that ends soon."""
    private_names.replace(CIRCUS)
    _configure(read)
    from circus.arbiter import Arbiter

    try:
        Arbiter.load_from_config(file).ctrl.sys_hdl.stop()
    except (configparser.Error, OSError, ValueError) as error:
        raise SystemExit(f"sandbox: {file} cannot be used: {error}") from error


def _tell_of_workspaces(read: Settings) -> None:
    """They outlive the service; whoever ends it should know."""
    if read.workspace_git and state.is_held(read.workspaces / ALIVE_OF_WORKSPACES):
        output.say(WORKSPACES_RUN_ON)


def _fail_if_given_up() -> None:
    """circusd's own main ends with 0 after every stop."""
    from service.supervise.watcher import GatedWatcher

    if GatedWatcher.has_given_up:
        raise SystemExit(1)


def _configure(read: Settings) -> None:
    from service.supervise import audited, circusd_log, reload_command, restart  # noqa: F401
    from service.supervise.reload.release import Supervisor
    from service.supervise.watcher import GatedWatcher

    GatedWatcher.folder = read.sockets
    GatedWatcher.patience_seconds = read.reload_seconds
    restart.Takeover.program = Program.running()
    audited.write_to(audit.AuditLog(read.logs, "circusd"))
    reload_command.Reload.supervisor = Supervisor(environment.conf_folder())  # last: it looks at what is imported
