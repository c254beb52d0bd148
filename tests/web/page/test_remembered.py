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


@pytest.mark.parametrize(("age", "shown"), [(5, "before"), (3600, "now")])
def test_while_somebody_looks_others_get_what_was_known_but_nothing_that_is_old(
    age: float, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As in an outage of Redis, in which each look takes seconds, and fails."""
    found, go_on = iter(["before", "now"]), threading.Event()
    go_on.set()
    remembered = Remembered(lambda: go_on.wait(30) and next(found))
    assert remembered.get() == "before"
    go_on.clear()
    now = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: now() + age)
    got: list[object] = []
    looking = threading.Thread(target=remembered.get)
    looking.start()
    eventually(remembered._lock.locked)
    asking = threading.Thread(target=lambda: got.append(remembered.get()))
    asking.start()
    asking.join(30 if shown == "before" else 0.3)
    go_on.set()
    for thread in (looking, asking):
        thread.join(30)
    assert got == [shown]
