"""How circusd stops: web, then runners, then Redis, so that nobody loses what is still needed to end in peace.

Each function is given what it replaces in circus, and returns what takes its place (private_names.py).
"""

import itertools
import signal
from collections.abc import Callable, Iterable
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

from tornado import gen

from service.observe import output
from service.supervise import audited

LOOK_SECONDS: Final = 0.05
WAITING: Final = ("watcher_stop", "watcher_restart", "arbiter_stop_watchers", "arbiter_restart")


def manage_watchers(stock: Callable[[Any], Any]) -> Callable[[Any], Any]:
    async def manage_watchers(arbiter: Any) -> None:
        """While a command stops or starts a watcher, circusd goes on to look after the others, which are active."""
        if arbiter._exclusive_running_command not in WAITING:
            await stock(arbiter)
        elif not arbiter._stopping:
            arbiter.reap_processes()
            await gen.multi([watcher.manage_processes() for watcher in arbiter.iter_watchers() if watcher.is_active()])

    return manage_watchers


def stop_watchers(_: object) -> Callable[..., Any]:
    async def stop_watchers(
        arbiter: Any, close_output_streams: bool = False, watcher_iter_func: Callable[..., Iterable[Any]] | None = None
    ) -> None:
        watchers = (watcher_iter_func or arbiter.iter_watchers)(reverse=False)
        for _, group in itertools.groupby(watchers, key=attrgetter("priority")):
            stopping = list(group)
            leaders = [(watcher, pid, born(pid)) for watcher in stopping for pid in watcher.processes]
            await gen.multi([watcher._stop(close_output_streams) for watcher in stopping])
            for watcher, pid, began in leaders:
                if born(pid) in (began, ""):  # minutes may have passed: the number may be somebody else's
                    watcher.end_leftovers(pid)

    return stop_watchers


def born(pid: int) -> str:
    """When a process began, in ticks of the kernel's; empty if there is none. While a group lives, its leader's number
    is given to nobody else.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19].decode()
    except OSError:
        return ""


def quit_when_free(_: object) -> Callable[[Any], None]:
    def quit_when_free(handler: Any) -> None:
        """In a signal handler, so the loop does it. A restart that is about to begin must know at once."""
        handler.controller.told_to_quit = True
        handler.controller.loop.add_callback_from_signal(_stop_when_free, handler.controller.arbiter)

    return quit_when_free


async def _stop_when_free(arbiter: Any) -> None:
    arbiter._restarting = False
    if arbiter._stopping:
        return
    arbiter._stopping = True
    audited.tell("quit", {}, arbiter.ctrl.signalled)
    output.say("sandbox is stopping: web, then runners, then Redis")
    while not _is_free(arbiter):
        await gen.sleep(LOOK_SECONDS)
    arbiter._exclusive_running_command = None
    for signum in (signal.SIGINT, signal.SIGTERM):
        arbiter.ctrl.sys_hdl._old[signum] = signal.SIG_IGN
    await arbiter.stop()


def _is_free(arbiter: Any) -> bool:
    if arbiter._exclusive_running_command in WAITING:
        return all(watcher.status() != "starting" for watcher in arbiter.watchers)
    return arbiter._exclusive_running_command is None
