"""What an attempt says, until it is stored."""

import json
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from service.tasks import context as contexts
from service.tasks.context import Child, Context
from service.tasks.document import RUNNING, Task
from service.tasks.lines import MOST_BYTES, MOST_LINES, Unstored
from tests.servers import BUSY


def said(unstored: Unstored) -> tuple[int, int]:
    """How many lines are stored next, and how many before them are left out."""
    portion = unstored.take(lambda text: text)
    assert portion is not None
    return len(portion.lines), portion.skipped


def test_the_newest_thousand_lines_stay() -> None:
    unstored = Unstored(1)
    for number in range(5 * MOST_LINES):
        unstored.add("info", f"{number} " + "x" * 100)
    assert said(unstored) == (MOST_LINES, 4 * MOST_LINES)


def test_lines_that_are_gone_take_no_room() -> None:
    unstored = Unstored(1)
    for _ in range(5 * MOST_LINES):
        unstored.add("info", "x" * 100)
    for _ in range(100):
        unstored.add("info", "x" * 1000)
    assert said(unstored) == (MOST_LINES, 4 * MOST_LINES + 100)


def test_of_long_lines_the_newest_256_kib_stay() -> None:
    unstored = Unstored(1)
    for _ in range(1000):
        unstored.add("info", "x" * 8000)
    stored, skipped = said(unstored)
    assert stored + skipped == 1000
    assert MOST_BYTES - 2 * 8000 < stored * 8000 < MOST_BYTES


# --- from many threads -------------------------------------------------------------------------------


@pytest.fixture
def quick_turns() -> Iterator[None]:
    """Threads take turns wherever they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def add(unstored: Unstored, count: int) -> None:
    for _ in range(count):
        unstored.add("info", "line")


def test_what_threads_say_at_once_is_neither_left_out_nor_told_to_be(quick_turns: None) -> None:
    for _ in range(200):
        unstored = Unstored(1)
        threads = [threading.Thread(target=add, args=(unstored, 100)) for _ in "four"]
        for thread in threads:
            thread.start()
        told: list[bytes] = []
        until = time.monotonic() + 10 * BUSY
        while len(told) < 400 and time.monotonic() < until:
            if (portion := unstored.take(str)) is not None:
                told += portion.lines
                assert portion.skipped == 0
                unstored.done(portion)
        moments = [json.loads(line)[0] for line in told]
        assert len(moments) == 400 and moments == sorted(set(moments))
        for thread in threads:
            thread.join()


def test_the_first_line_of_each_thread_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    context = Context(Task(uid="a" * 64, type="t", queue="q", status=RUNNING, created_at=""))

    def made(attempt: int) -> Unstored:
        monkeypatch.undo()
        context.log("of another thread")
        return Unstored(attempt)

    monkeypatch.setattr(contexts, "Unstored", made)
    context.log("of this one")
    assert context.lines is not None and said(context.lines) == (2, 0)


def test_no_two_tasks_that_threads_create_at_once_are_taken_for_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def create(context: Context, children: object) -> list[str]:
        assert isinstance(children, list) and isinstance(children[0], Child)
        return [str(children[0].key)]

    context = Context(Task(uid="a" * 64, type="t", queue="q", status=RUNNING, created_at=""), None, create)
    made = []

    def count(first: int) -> Iterator[int]:
        monkeypatch.undo()
        made.append(context.create("echo"))
        return iter(range(first, 10))

    monkeypatch.setattr("service.tasks.context.itertools.count", count)
    made.append(context.create("echo"))
    assert len({*made}) == 2
