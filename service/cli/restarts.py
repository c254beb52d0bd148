"""`sandbox restart`. The exit code is 7 if circusd has not come back to what it was; 1 if it goes on as before."""

import os
import pwd
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from service.cli import control
from service.cli.caller import NOT_ALLOWED, UNAVAILABLE, CallFailed
from service.cli.parsing import command
from service.errors import RestartFailed, RestartRefused, StoreUnavailable

if TYPE_CHECKING:
    from service.settings import Settings

ANSWER_SECONDS: Final = 5.0
LOOK_SECONDS: Final = 0.1


@command()
def restart() -> None:
    """Checks everything as a start would, asks circusd, and waits for the outcome."""
    from service import settings
    from service.supervise import circusd, private_names
    from service.supervise.start import checks, environment, handover

    read = settings.read(os.environ)
    if control.circusd(read) is None:
        raise RestartRefused(f"no sandbox runs on {read.home}. `sandbox run` starts one.")
    _refuse_others(read)
    private_names.check(private_names.CIRCUS)
    checks.check_restart(read, _listening(read))
    _check_redis(read)
    program = handover.Program.running()  # now, when a task's variables are gone
    os.environ.update(environment.variables(read))
    circusd.check_configuration(read, str(environment.conf_folder() / "circus.ini"))
    with handover.wish(read.sockets, program) as folder:
        _tell(read, "takeover", name=folder.name)
    outcome = _outcome(read, folder)
    if outcome.startswith(handover.STOPPING) or handover.STAYS in outcome:
        raise CallFailed(outcome, UNAVAILABLE)
    if outcome:
        raise RestartRefused(f"the service goes on as before: {outcome}")
    print("sandbox has been restarted")


def _refuse_others(read: "Settings") -> None:
    """circusd reads what this user writes down, and becomes what this user has checked."""
    with suppress(FileNotFoundError):  # then it does not answer, which is told in a moment
        number = (read.sockets / "control.sock").stat().st_uid
        if number != os.geteuid():
            raise CallFailed(
                f"only {_user(number)}, as whom the service runs, can restart it. Nothing has changed.", NOT_ALLOWED
            )


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def _check_redis(read: "Settings") -> None:
    """A start waits for a Redis that is away. Here one that answers would be given up for it."""
    from service.cli import wiring

    if read.redis_url:
        try:
            wiring.store(read).judge()
        except StoreUnavailable as error:
            raise RestartRefused(f"REDIS_URL: {error}. Nothing has changed.") from error


def _listening(read: "Settings") -> list[Any]:
    """Where the circusd that runs listens."""
    sockets = _tell(read, "listsockets").get("sockets", [])
    return [socket.get("path") or (socket["host"], socket["port"]) for socket in sockets]


def _tell(read: "Settings", command: str, **properties: str) -> dict[str, Any]:
    from circus.client import CircusClient
    from circus.exc import CallError

    client = CircusClient(endpoint=f"ipc://{read.sockets / 'control.sock'}", timeout=ANSWER_SECONDS)
    try:
        answer: dict[str, Any] = client.send_message(command, **properties)
    except CallError as error:
        raise RestartRefused(f"circusd does not answer ({error}). Try again.") from error
    finally:
        client.stop()
    if answer["status"] != "ok":
        raise RestartRefused(f"circusd does not restart: {answer['reason']}. Nothing has changed.")
    return answer


def _outcome(read: "Settings", folder: Path) -> str:
    """Until circusd has told it, the folder is circusd's: it stays if this command is interrupted."""
    from service.supervise.start import handover, state

    try:
        while (outcome := handover.outcome(folder)) is None:
            if state.owner(read) is None:
                told = "circusd has ended; its terminal and log/circus.log say why. Start it: `sandbox run`."
                raise CallFailed(told, UNAVAILABLE)
            time.sleep(LOOK_SECONDS)
    except RestartFailed as error:
        raise CallFailed(str(error), UNAVAILABLE) from error
    shutil.rmtree(folder, ignore_errors=True)
    return outcome
