"""What an interruption must not leave behind, wherever it comes: a lock that is held, a program that runs."""

import logging
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from service.errors import Cancelled
from service.observe.log_file import LogFile
from service.observe.logs import LineHandler, Log
from service.observe.output import Terminal
from service.observe.sentry.event import Event, Shape
from service.observe.sentry.outbox import Kept, Outbox, Parcel
from service.observe.sentry.reporter import ErrorsInTheLog, Reporter
from service.observe.sentry.trail import Trail
from service.runner import beginnings, programs
from service.runner.forked import _Window
from service.runner.hearing import Hearing
from service.runner.shared import REASONS, Shared
from service.runner.window import MAIN_THREAD, Window
from service.tasks.context import Context
from tests.runner.test_attempt import running
from tests.servers import BUSY

ROUNDS = 200
LATE = 1_000  # acts within which an interruption that was sent arrives, or never: see `work`
THREAD, MAIN, APART = "a thread", "the main thread", "a process of its own"

Act = Callable[[], object]

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(params=[THREAD, MAIN])
def lane(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Callable[[Window], object], float], None]]:
    """Calls something in a lane of that kind, as often as it is through, until it is interrupted."""
    windows: list[Window] = []
    sent = threading.Event()
    shared = Shared()

    def arrive(*_: object) -> None:
        if isinstance(window := windows[-1], _Window):
            window.look()
        else:
            window.arrive()

    def work(act: Callable[[Window], object]) -> None:
        windows.append(window := _Window(shared) if request.param == APART else Window())
        try:
            with window:
                while not sent.is_set():
                    act(window)
                for _ in range(LATE):  # Python drops an exception that arrives in the callback of a weak reference
                    act(window)
        except Cancelled:
            window.close()

    def interrupt(seconds: float) -> None:
        while not windows:
            time.sleep(0.0001)
        time.sleep(seconds)
        if request.param == APART:
            shared.interrupt(REASONS.index(Cancelled) + 1)
            signal.pthread_kill(MAIN_THREAD, signal.SIGUSR1)
        while windows[-1].reason is None and request.param != APART:  # it may not be open yet
            windows[-1].interrupt(Cancelled)
        sent.set()

    def interrupted(act: Callable[[Window], object], seconds: float) -> None:
        windows.clear()
        sent.clear()
        shared.interrupt(0)
        if request.param == THREAD:
            thread = threading.Thread(target=work, args=(act,), daemon=True)
            thread.start()
            interrupt(seconds)
            thread.join(10 * BUSY)
            assert not thread.is_alive()
        else:
            other = threading.Thread(target=interrupt, args=(seconds,))
            other.start()
            work(act)
            other.join()

    if beginnings.IS_NEEDED:
        monkeypatch.setattr(threading, "_start_new_thread", beginnings.start_new_thread)
    before = signal.signal(signal.SIGUSR1, arrive)
    yield interrupted
    signal.signal(signal.SIGUSR1, before)
    shared.close()


Lane = Callable[[Callable[[Window], object], float], None]


def is_through(act: Act) -> bool:
    """In another thread."""
    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    thread.join(1.0 * BUSY)
    return not thread.is_alive()


class Emptied(Outbox):
    def _deliver(self, first: Kept) -> float:
        self._forget(first)
        return 0.0


class Nowhere:
    def deliver(self, event: Event) -> None: ...


HANDLERS: dict[str, Callable[[Path], logging.Handler]] = {
    "file": lambda path: LineHandler(Log(LogFile(path)), "runner"),
    "terminal": lambda path: Terminal(),
    "sentry": lambda path: ErrorsInTheLog(Reporter(Nowhere(), Outbox(), Shape({"service"}), {"tags": {}}), Trail()),
    "task's log": lambda path: Hearing(),
}


def log_of(handler: logging.Handler) -> logging.Logger:
    log = logging.Logger("interrupted")
    log.addHandler(handler)
    log.info("the level is known")
    return log


@pytest.mark.parametrize("kind", HANDLERS)
def test_nobody_who_logs_waits_for_the_lock_of_a_handler(tmp_path: Path, kind: str) -> None:
    log = log_of(handler := HANDLERS[kind](tmp_path / "x.log"))
    handler.acquire()
    try:
        assert is_through(lambda: log.info("a line"))
    finally:
        handler.release()


def test_whoever_is_interrupted_while_he_logs_leaves_no_lock(lane: Lane) -> None:
    log = log_of(Hearing())  # without an attempt it has little to do: so a lock, if it has one, is often met
    act = lambda *_: log.info("a line")  # noqa: E731
    for _ in range(ROUNDS):
        lane(act, random.uniform(0.001, 0.003))
        assert is_through(act)


def test_whoever_is_interrupted_while_he_reports_an_error_leaves_no_lock(lane: Lane) -> None:
    outbox = Emptied()
    act = lambda *_: outbox.put(Parcel("", {}, b""))  # noqa: E731
    act()
    for _ in range(ROUNDS):
        lane(act, random.uniform(0.001, 0.003))
        assert is_through(act)
    assert outbox.flush(10 * BUSY)


def test_whoever_is_interrupted_while_he_begins_a_thread_hears_of_it_and_nobody_else_does(lane: Lane) -> None:
    ended: list[bool] = []
    heard: list[threading.ExceptHookArgs | sys.UnraisableHookArgs] = []

    def begin(window: object) -> None:
        threading.Thread(target=ended.append, args=(True,), daemon=True).start()

    before = sys.unraisablehook
    sys.unraisablehook = heard.append
    try:
        for _ in range(ROUNDS):
            lane(begin, random.uniform(0.001, 0.003))
    finally:
        sys.unraisablehook = before
    assert not heard


@pytest.mark.parametrize("lane", [THREAD, MAIN, APART], indirect=True)
def test_whoever_is_interrupted_while_a_program_starts_leaves_none_running(lane: Lane) -> None:
    context, before = Context(running()), set(psutil.Process().children())
    for _ in range(ROUNDS):
        lane(lambda window: programs.run(window, context, ["sleep", "300"]), random.uniform(0.0, 0.006))
    left = set(psutil.Process().children()) - before
    for each in left:
        each.kill()
    assert not left
    assert not programs._own
