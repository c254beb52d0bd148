"""Hosts side by side: a thread for each, and what becomes of them when the command is interrupted.

They get no further change then (host.py asks `is_too_late`), and what they have begun is waited for: what goes back is
not to meet what still goes forward.
"""

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Final, TypeVar

from rollout import report
from rollout.errors import DeployError, Failures, StillWaits

WAITED_FOR: Final = (
    "interrupted: nothing new begins, and what is under way is waited for; if interrupted again, it is not"
)
LOOK_SECONDS: Final = 0.05
Place = TypeVar("Place")
Result = TypeVar("Result")


class _Mine(threading.local):
    """Of a thread that works for one host."""

    def __init__(self) -> None:
        self.interrupted = threading.Event()


_mine = _Mine()


def is_too_late() -> bool:
    """Does this thread work for something that was interrupted?"""
    return _mine.interrupted.is_set()


def side_by_side(
    hosts: Iterable[Place], call: Callable[[Place], Result], *, may_be_left: bool = False
) -> dict[Place, Result]:
    """Calls for all hosts at once, and waits for all; then raises what went wrong, if something did.

    With `may_be_left`, nobody waits for what is interrupted.
    """
    hosts = list(hosts)
    interrupted = threading.Event()

    under_way: set[Place] = set()

    def work(host: Place) -> Result:
        _mine.interrupted = interrupted
        under_way.add(host)
        try:
            if interrupted.is_set():  # as this thread was started
                raise KeyboardInterrupt
            return call(host)
        finally:
            under_way.discard(host)

    threads = ThreadPoolExecutor(max(1, len(hosts)))
    calls: dict[Place, Future[Result]] = {}
    try:
        for host in hosts:
            calls[host] = threads.submit(work, host)
        while wait(calls.values(), LOOK_SECONDS).not_done:  # a signal just before a wait without an end is not heard
            pass
    except BaseException:
        interrupted.set()
        if under_way and not may_be_left:
            report.warning(WAITED_FOR)
            while under_way:
                time.sleep(LOOK_SECONDS)
        raise
    finally:
        threads.shutdown(wait=False)
    _raise_what_failed(calls.values())
    return {host: running.result() for host, running in calls.items()}


def _raise_what_failed(calls: Iterable[Future[Result]]) -> None:
    failed = [error for running in calls if (error := running.exception())]
    if len(failed) == 1:
        raise failed[0]
    for error in failed:
        if not isinstance(error, DeployError):
            raise error
    if failed:
        kind = StillWaits if all(isinstance(error, StillWaits) for error in failed) else Failures
        raise kind("\n".join(map(str, failed)))
