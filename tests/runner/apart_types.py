"""Task types whose attempts have processes of their own, and behave badly there."""

import ctypes
import errno
import logging
import os
import signal
import socket
import stat
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from service import Context, Reject, Retry, task
from service.errors import InvalidTask, KeyHeld
from service.runner.frames import OUTCOME, frame
from tests.runner import handlers

log = logging.getLogger("their.own")


@task("apart", process=True, secret=("key",))
def apart(context: Context, key: str = "") -> dict[str, Any]:
    """Does all that a handler may."""
    context.progress(0.25, f"begun {key}")
    context.log(f"by context.log {key}")
    context.logger.warning("by %s", "context.logger")
    log.info("by their own logger")
    thread = threading.Thread(target=lambda: context.logger.info("from a thread"))
    thread.start()
    thread.join()
    done = context.run(["sh", "-c", "echo by a program"], check=True)
    return {"pid": os.getpid(), "parent": os.getppid(), "attempt": context.attempt, "said": done.stdout}


@task("no.descriptors")
def no_descriptors(context: Context) -> None:
    """From now on its runner is out of descriptors: one pair of sockets is the last."""
    pairs = [socket.socketpair()]

    def pair() -> tuple[socket.socket, socket.socket]:
        if pairs:
            return pairs.pop()
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    socket.socketpair = pair  # type: ignore[assignment]


@task("apart.fails", process=True, max_attempts=2, secret=("key",))
def fails(context: Context, how: str, key: str = "") -> None:
    if how == "retry":
        raise Retry("not yet", after=500)
    if how == "reject":
        raise Reject("never")
    context.progress(0.5, "just before")
    raise ValueError(f"broken by {key}")


@task("apart.parent", process=True)
def parent(context: Context) -> list[str]:
    """Its children, and how those are refused that cannot be."""
    refused = []
    for name, args in (("nobody.knows", {}), ("apart.one", {"wrong": 1}), ("apart.one", {"name": "b"})):
        try:
            context.create(name, key="same", **args)
            context.create(name, key="other", **args)
        except (InvalidTask, KeyHeld) as error:
            refused.append(f"{name}: {error}")
    return [*context.create_many("apart", [{}, {}]), *refused]


@task("apart.one", unique={"key": {"args": ["name"]}, "on_conflict": "reject"})
def one(context: Context, name: str) -> None:
    time.sleep(60)


@task("apart.pushes", process=True, limits=("by-key",))
def pushes(context: Context) -> None:
    raise Retry("too many requests", after=500, limit="by-key")


@task("apart.note", process=True)
def note(context: Context, path: str, seconds: float = 60.0) -> None:
    """Writes down its process, that of a program, and of what it has forked; then how it ended."""
    forked = os.fork()
    if not forked:
        time.sleep(seconds)
        os._exit(0)
    program = threading.Thread(target=context.run, args=(["sleep", str(seconds)],), daemon=True)
    program.start()
    while not (children := _programs()):
        time.sleep(0.01)
    with Path(path).open("a") as file:
        file.write(f"{os.getpid()} {forked} {children[0]}\n")
    try:
        time.sleep(seconds)
    except BaseException as error:
        with Path(path).open("a") as file:
            file.write(f"{type(error).__name__} {context.cancelled}\n")
        raise


def _programs() -> list[int]:
    listed = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())], capture_output=True, text=True)
    return [int(line.split()[0]) for line in listed.stdout.splitlines() if line.split()[1] == "sleep"]


@task("apart.hold", process=True)
def hold(context: Context, path: str) -> None:
    """Holds the interpreter of its process, while a program runs."""
    program = threading.Thread(target=context.run, args=(["sleep", "600"],), daemon=True)
    program.start()
    while not (children := _programs()):
        time.sleep(0.01)
    Path(path).write_text(f"{os.getpid()} {children[0]}\n")
    handlers.hold(context)


@task("apart.alone", process=True)
def alone(context: Context, path: str, key: str, seconds: float) -> None:
    handlers.alone(context, path, key, seconds)


@task("apart.crash", process=True, max_attempts=2)
def crash(context: Context, how: str) -> None:
    context.log("last words")
    context.progress(0.75, "almost")
    if how == "segfault":
        ctypes.string_at(0)
    if how == "exit":
        os._exit(3)
    os.kill(os.getpid(), int(how) if how.isdigit() else getattr(signal, how))


@task("apart.garbles", process=True)
def garbles(context: Context) -> None:
    """Writes into descriptors that are not its own."""
    for number in range(3, 64):
        with suppress(OSError):
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                os.write(number, frame(OUTCOME, b"no pickle"))
    time.sleep(600)


@task("apart.zygote", process=True)
def zygote(context: Context, path: str) -> str:
    """Kills the process that forked it, at its first attempt."""
    if not Path(path).exists():
        Path(path).write_text(f"{os.getpid()}\n")
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    return "done"


@task("apart.stops", process=True)
def stops(context: Context, path: str) -> None:
    """Stops the process that forked it."""
    Path(path).write_text(f"{os.getpid()}\n")
    os.kill(os.getppid(), signal.SIGSTOP)
    time.sleep(600)


@task("apart.leaves", process=True)
def leaves(context: Context) -> int:
    forked = os.fork()
    if not forked:
        time.sleep(600)
        os._exit(0)
    return forked


@task("apart.flood", process=True)
def flood(context: Context) -> None:
    while True:
        context.progress(0.5, "x" * 1000)
        context.log("y" * 100_000)  # more than a socket takes at once
