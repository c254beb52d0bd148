"""What an attempt says, until it is stored."""

from service.tasks.lines import MOST_BYTES, MOST_LINES, Unstored


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
