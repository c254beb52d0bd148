"""What a process remembers for a second."""

import threading
import time

import pytest

from service.web.page.remembered import Remembered
from tests.servers import eventually


def test_what_is_known_is_not_looked_for_again_in_the_same_second() -> None:
    looks: list[int] = []
    remembered = Remembered(lambda: looks.append(1) or len(looks), seconds=60)
    assert [remembered.get() for _ in range(3)] == [1, 1, 1]


def test_who_waits_for_a_look_that_fails_does_not_look_once_more() -> None:
    looks: list[int] = []
    go_on = threading.Event()

    def find() -> int:
        looks.append(1)
        go_on.wait(30)
        raise OSError("away")

    remembered = Remembered(find)
    failed: list[str] = []

    def ask() -> None:
        with pytest.raises(OSError, match="away"):
            remembered.get()
        failed.append("")

    first = threading.Thread(target=ask)
    first.start()
    eventually(lambda: looks)
    others = [threading.Thread(target=ask) for _ in range(5)]
    for thread in others:
        thread.start()
    time.sleep(0.2)  # they have asked, and wait for the lock
    go_on.set()
    for thread in (first, *others):
        thread.join(30)
    assert (len(looks), len(failed)) == (1, 6)
