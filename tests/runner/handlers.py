"""Task types that behave badly, each in its own way."""

import asyncio
import ctypes
import fcntl
import multiprocessing
import os
import re
import signal
import struct
import subprocess
import threading
import time
from pathlib import Path
from typing import Any, Final

from service.errors import Cancelled, Reject, Retry, Stopping
from service.tasks.declare import task


@task("note")
def note(context: Any, path: str, text: str = "", seconds: float = 0.0) -> int:
    """Writes down each of its runs, then takes its time."""
    with Path(path).open("a") as file:
        file.write(f"{text or context.uid} {context.attempt} {os.getpid()}\n")
    time.sleep(seconds)
    return os.getpid()


@task("counted", limits=("by-key",), max_attempts=20)
def counted(context: Any, folder: str, key: str, seconds: float = 0.01) -> int:
    """How many of its key run now, in living processes. It adds a line to the key's file."""
    place = Path(folder) / key
    place.mkdir(exist_ok=True)
    with (place / f"{context.uid}.{context.attempt}").open("w") as mine:
        fcntl.flock(mine, fcntl.LOCK_EX)
        count = sum(map(_is_locked, place.iterdir()))
        with (Path(folder) / f"{key}.txt").open("a") as file:
            file.write(f"{count}\n")
        time.sleep(seconds)
    return count


def _is_locked(path: Path) -> bool:
    with path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


@task("pushes", limits=("by-key",))
def pushes(context: Any, key: str, after: float) -> str:
    """The first one pushes its key back."""
    if context.attempt == 1 and after:
        raise Retry("too many requests", after=after, limit="by-key")
    return key


@task("nap")
def nap(context: Any, seconds: float) -> str:
    """One long blocking call."""
    time.sleep(seconds)
    return "slept"


@task("listens")
def listens(context: Any) -> None:
    """As a server that runs on asyncio does, which takes the signals away when it ends."""

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
            loop.add_signal_handler(signum, loop.stop)

    asyncio.run(serve())


@task("shell")
def shell(context: Any, command: str) -> int:
    return subprocess.run(command, shell=True, check=False).returncode


@task("forks")
def forks(context: Any, raises: bool = False) -> int | str:
    """Its copy comes back from it, too."""
    copy = os.fork()
    if copy:
        return os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1])
    if raises:
        raise ValueError("in the copy")
    return "the copy"


@task("terminates")
def terminates(context: Any) -> int | None:
    """How a process ended that it has forked."""
    fork = multiprocessing.get_context("fork")
    begun = fork.Event()
    process = fork.Process(target=_sleep_after, args=(begun,))
    process.start()
    begun.wait(30)
    process.terminate()
    process.join(10)
    code = process.exitcode
    process.kill()
    return code


def _sleep_after(begun: Any) -> None:
    begun.set()
    time.sleep(300)


@task("stubborn")
def stubborn(context: Any, seconds: float) -> str:
    """Swallows whatever is raised in it."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            time.sleep(0.05)
        except BaseException:
            continue
    return "as I wished"


@task("hog")
def hog(context: Any) -> None:
    """Holds the interpreter in C code that asks for signals, for minutes."""
    re.match(r"(a+)+$", "a" * 64 + "b")


C: Final = ctypes.PyDLL(None)  # its calls hold the interpreter


@task("hold")
def hold(context: Any, seconds: float = 600) -> str:
    """Holds the interpreter in C code that asks for nothing, and takes no processor: it waits for its own lock."""
    lock = ctypes.create_string_buffer(64)  # a pthread_mutex_t
    until = time.time() + seconds
    C.pthread_mutex_lock(lock)
    C.pthread_mutex_timedlock(lock, struct.pack("ll", int(until), int(until % 1 * 1e9)))
    return "let go"


@task("hold.later")
def hold_later(context: Any, path: str) -> str:
    """Waits for a file before that."""
    while not Path(path).exists():
        time.sleep(0.05)
    return hold(context)


@task("closes.output")
def closes_output(context: Any) -> None:
    for number in range(3):
        os.close(number)


@task("prints")
def prints(context: Any) -> None:
    print("heard")
    subprocess.run(["echo", "heard from a child"], check=True)


@task("leaves.thread")
def leaves_thread(context: Any) -> None:
    threading.Thread(target=time.sleep, args=(600,), name="left-behind").start()


@task("leaves.process")
def leaves_process(context: Any) -> None:
    multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), name="left-behind").start()


@task("crash")
def crash(context: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@task("segfault")
def segfault(context: Any) -> None:
    ctypes.string_at(0)


@task("crash.once")
def crash_once(context: Any, path: str) -> int:
    if not Path(path).exists():
        Path(path).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return context.attempt  # type: ignore[no-any-return]


@task("reject")
def reject(context: Any) -> None:
    raise Reject("not with me")


@task("again")
def again(context: Any, after: float) -> int:
    if context.attempt == 1:
        raise Retry("come back", after=after)
    return context.attempt  # type: ignore[no-any-return]


@task("retries")
def retries(context: Any, after: Any) -> None:
    raise Retry("as asked", after=after)


@task("fails")
def fails(context: Any) -> None:
    raise ValueError("broken \ud800 text")


@task("exits")
def exits(context: Any) -> None:
    raise SystemExit(3)


@task("raises")
def raises(context: Any, what: str) -> None:
    raise {"Cancelled": Cancelled, "Stopping": Stopping}[what]


@task("returns")
def returns(context: Any, what: str) -> Any:
    return {
        "set": {1, 2},
        "nan": float("nan"),
        "object": object(),
        "bytes": b"x",
        "large": "x" * 300_000,
        "surrogate": "\ud800",
        "tuple": (1, "two", None, 3.5),
        "huge number": 10**40,
    }[what]


@task("steps")
def steps(context: Any, seconds: float) -> str:
    for step in range(10):
        context.progress(step / 10, f"step {step}")
        time.sleep(seconds / 10)
    return "done"


class Alarmed(Exception):
    pass


def alarmed(*_: Any) -> None:
    raise Alarmed


signal.signal(signal.SIGALRM, alarmed)


@task("alarm")
def alarm(context: Any, way: str) -> str:
    """Limits its own work, as one does it in plain Python."""
    if way == "alarm":
        signal.alarm(1)
    else:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        time.sleep(60)
    except Alarmed:
        return "woken"
    return "slept"


@task("fan.out")
def fan_out(context: Any, path: str, count: int) -> list[str]:
    """Takes its time between its children."""
    made = []
    for number in range(count):
        made.append(context.create("note", key=str(number), path=path, text=str(number)))
        time.sleep(0.02)
    return made


@task("threads.begun", max_attempts=1)
def threads_begun(context: Any) -> None:
    """Begins one after the other, without an end."""
    while True:
        threading.Thread(target=str, daemon=True).start()


@task("alone")
def alone(context: Any, path: str, key: str, seconds: float) -> None:
    """Writes down when it begins and when it ends."""
    for what in ("begun", "ended"):
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(descriptor, f"{what} {key} {context.uid} {context.attempt}\n".encode())
        os.close(descriptor)
        if what == "begun":
            time.sleep(seconds)
