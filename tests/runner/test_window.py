"""When an attempt may be interrupted. What the interruption does to handlers: test_process.py."""

import threading
import time

import pytest

from service.errors import Stopping, TimedOut
from service.runner.window import Window
from tests.servers import eventually


def test_the_first_interruption_ends_what_runs_and_no_other_counts() -> None:
    windows: list[Window] = []
    ended_by: list[BaseException] = []

    def run() -> None:
        windows.append(window := Window())
        try:
            with window:
                while True:
                    time.sleep(0.001)
        except (TimedOut, Stopping) as error:
            ended_by.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    [window] = eventually(lambda: windows)
    eventually(lambda: window.interrupt(TimedOut) or window.reason)  # it may not be open yet
    window.interrupt(Stopping)
    thread.join(10)
    assert [type(error) for error in ended_by] == [TimedOut] == [window.reason]


def test_a_signal_counts_once_and_only_while_the_window_that_it_is_for_is_open() -> None:
    window = Window()
    window.interrupt(TimedOut)  # not open yet
    window.arrive()
    with window:
        window.arrive()  # for an earlier attempt
        window.reason = TimedOut
        with pytest.raises(TimedOut):
            window.arrive()
        window.arrive()
    late = Window()
    with late:
        late.reason = TimedOut
    late.arrive()


def test_what_comes_while_it_is_held_off_is_raised_once_when_it_is_let_go() -> None:
    window = Window()
    with window:
        window.hold_off()
        window.interrupt(TimedOut)
        window.arrive()
        with pytest.raises(TimedOut):
            window.let_go()
        window.arrive()
        window.hold_off()
        window.let_go()
