"""The processes that circusd starts beside gunicorn."""

import logging
import os
import sys
from pathlib import Path
from typing import Final

import click

from service.cli.parsing import command
from service.errors import SandboxError

REDIS_WAIT_SECONDS: Final = 60.0


@command()
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
    valkey.refuse_a_lost_manifest(folder)
    log = read.logs / "redis.log"
    if why := valkey.why_it_ended(folder, log):
        output.say(f"sandbox: {why}")
    _write_to(log)
    valkey.run(read.sockets / "redis.sock", folder, read.fsync, log)
    return 0


def _write_to(log: Path) -> None:
    """What this process prints goes into the log from here on."""
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(descriptor, stream.fileno())


@command()
def redis_sync() -> int:
    from service import settings
    from service.embedded import sync
    from service.supervise.start import state

    sync.become(str(state.redis_folder(settings.read(os.environ)) / "appendonlydir"))
    return 0


@command()
@click.option("--builder", is_flag=True, help="one of those of SANDBOX_BUILDER_QUEUES")
def runner(builder: bool) -> int:
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


@command()
def observer() -> int:
    from service import settings
    from service.cli import wiring
    from service.observe import logs, output

    read = settings.read(os.environ)
    output.keep_output("observer", read.logs)
    logs.configure("observer", read.logs, read.log_level, read.log_format)
    return wiring.run_observer(read, os.environ["CIRCUSCTL_ENDPOINT"])
