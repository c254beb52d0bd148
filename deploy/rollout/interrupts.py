"""Ctrl-C, TERM and HUP end a command: what was begun is taken back, and that is not interrupted."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final, NoReturn

ENDING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
HELD: Final = b"fab: this is taken back first; KILL would leave the hosts half way\n"


def end(number: int, _: object) -> NoReturn:
    """As Ctrl-C does."""
    raise KeyboardInterrupt(f"ended by {signal.Signals(number).name}")


def hear() -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:  # nohup stays nohup
            signal.signal(number, end)


@contextmanager
def held() -> Iterator[None]:
    """To be used by the main thread. Whoever interrupts meanwhile is told, and nothing else happens."""

    def tell(*_: object) -> None:
        with suppress(OSError):  # the terminal may be gone
            os.write(2, HELD)  # the thread that is interrupted may be printing

    before = {number: signal.getsignal(number) for number in ENDING}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, tell)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
