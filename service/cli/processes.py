"""What circusd starts beside gunicorn: `python -m service.cli runner`, and so on.

No command of `sandbox` needs them. So they come without click, which would be a megabyte of each runner.
"""

import logging
import os
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final

from service.cli import showing, surroundings
from service.cli.surroundings import FAILED, INTERRUPTED
from service.errors import SandboxError

REDIS_WAIT_SECONDS: Final = 60.0


def main(begin: Callable[[], int]) -> int:
    surroundings.mend_streams()
    try:
        surroundings.refuse_nowhere()
        return begin()
    except SandboxError as error:
        showing.tell(str(error))
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED


def redis() -> int:
    """Holds the lock of the data for as long as the server lives: two servers would ruin them."""
    from service import settings
    from service.embedded import valkey
    from service.observe import output
    from service.supervise.start import state

    read = settings.read(os.environ)
    folder = state.redis_folder(read)
    holder = state.lock(folder / "lock", wait_seconds=REDIS_WAIT_SECONDS, survives_exec=True)
    if holder is not None:
        raise SandboxError(f"another Redis (process {holder}) still serves {folder}")
    valkey.refuse_closed_files(folder)
    valkey.refuse_lost_data(folder)
    log = read.logs / "redis.log"
    if why := valkey.full_disk(folder) or valkey.why_it_ended(folder, log):
        output.say(f"sandbox: {why}")
    _write_to(log)
    valkey.run(read.sockets / "redis.sock", folder, read.fsync, log)
    return 0


def _write_to(log: Path) -> None:
    """What this process prints goes into the log from here on."""
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(descriptor, stream.fileno())


def redis_sync() -> int:
    """Becomes what brings the embedded Redis's data to the disk once a second."""
    from service import settings
    from service.embedded import sync
    from service.supervise.start import state

    sync.become(str(state.redis_folder(settings.read(os.environ)) / "appendonlydir"))
    return 0


def runner(*, builder: bool = False) -> int:
    """A builder serves SANDBOX_BUILDER_QUEUES."""
    from service.supervise.reload import candidate

    candidate.begin()
    from service import settings
    from service.observe import log_file, logs, output
    from service.supervise.start import environment

    environment.name_session()
    read = settings.read(os.environ)
    output.keep_output("runner", read.logs)
    log_file.caretaker.keep_small(read.logs / "redis.log")
    lines = logs.configure("runner", read.logs, read.log_level, read.log_format)
    from service.cli import wiring

    try:
        return wiring.run_runner(read, lines, builder=builder)
    except SandboxError as error:
        logging.getLogger("sandbox").error("%s", error)  # what is printed from here on does not reach the terminal
        candidate.fail()  # now, though threads of the task types may hold up the end
        return 1


def observer() -> int:
    """Tells metrics and Sentry what circusd does."""
    from service import settings
    from service.cli import wiring
    from service.observe import logs, output

    read = settings.read(os.environ)
    output.keep_output("observer", read.logs)
    logs.configure("observer", read.logs, read.log_level, read.log_format)
    return wiring.run_observer(read, os.environ["CIRCUSCTL_ENDPOINT"])


PROCESSES: Final[Mapping[tuple[str, ...], Callable[[], int]]] = {
    ("redis",): redis,
    ("redis-sync",): redis_sync,
    ("runner",): runner,
    ("runner", "--builder"): partial(runner, builder=True),
    ("observer",): observer,
}
