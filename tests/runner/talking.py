"""Handlers that say something in their task's log."""

import logging
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

from service import Context, task

log = logging.getLogger("their.own")


@task("talk")
def talk(context: Context, text: str = "hello") -> None:
    context.log(text)
    context.logger.warning("by %s", "context.logger")
    log.info("by their own logger")
    log.debug("not so important")
    thread = threading.Thread(target=lambda: context.logger.info("from a thread"))
    thread.start()
    thread.join()


@task("talk.long")
def talk_long(context: Context, seconds: float = 60.0) -> None:
    context.log("begun")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.01)


@task("talk.and_fail", max_attempts=2)
def talk_and_fail(context: Context) -> None:
    context.log(f"attempt {context.attempt}")
    raise ValueError("on purpose, with password=hunter2")


@task("talk.and_die")
def talk_and_die(context: Context) -> None:
    context.log("last words")
    if context.attempt == 1:
        time.sleep(1.0)  # until they are stored
        os.kill(os.getpid(), signal.SIGKILL)


@task("flood")
def flood(context: Context, seconds: float) -> int:
    count, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        for _ in range(100):
            context.log("x" * 100)
        count += 100
    return count


@task("program")
def program(context: Context, words: list[str], check: bool = True, timeout: float | None = None) -> object:
    done = context.run(words, check=check, timeout=timeout)
    return {"returncode": done.returncode, "stdout": done.stdout}


@task("program.long")
def program_long(context: Context, pids: str) -> None:
    """Writes down the pids of a program and of its child; both would go on for a minute."""
    script = 'sleep 60 & echo $$ $! > "$0.new" && mv "$0.new" "$0"; echo running; wait'
    try:
        context.run(["sh", "-c", script, pids])
    finally:
        Path(f"{pids}.over").write_text("over")


@task("program.beside")
def program_beside(context: Context, pid: str, seconds: float) -> None:
    """Its thread runs one program after the other, and is left behind."""
    script = 'echo $$ > "$0.new" && mv "$0.new" "$0"; exec sleep 60'

    def run() -> None:
        try:
            for number in range(3):
                context.run(["sh", "-c", script, pid if number == 0 else f"{pid}.{number}"])
        finally:
            Path(f"{pid}.over").touch()

    threading.Thread(target=run, daemon=True).start()
    while not Path(pid).exists():
        time.sleep(0.01)
    time.sleep(seconds)


@task("program.odd")
def program_odd(context: Context) -> list[str]:
    told = []
    for words, options in (("echo", {}), (["echo"], {"stdout": subprocess.PIPE}), (["echo"], {"shell": True})):
        try:
            context.run(words, **options)  # type: ignore[arg-type]
        except TypeError as error:
            told.append(str(error))
    return told


@task("keep.secret", secret=("password", "more"))
def keep_secret(context: Context, password: str, more: list[int]) -> None:
    context.log(f"log {password}")
    context.progress(0.5, f"signs in with {password}")
    context.logger.info("logger %s %s", password, more)
    context.run(["echo", password, *map(str, more)])
    raise RuntimeError(f"error {password} {more}")


@task("keep.key", secret=("key",))
def keep_key(context: Context, key: str) -> None:
    context.run(["printf", "%s", key])
    context.run(["sh", "-c", "exit 3", key], check=True)
