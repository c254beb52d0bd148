"""A look at what a workspace has of the disk is dear: it is looked when it may have grown."""

import time

import pytest

from steward import share
from steward.share import Share


@pytest.mark.parametrize(
    ("free", "looks"),
    [
        ([(1000, 500), (1000, 500), (951, 451)], 1),
        ([(1000, 500), (1000, 500), (950, 500)], 2),
        ([(1000, 500), (1000, 500), (1000, 450)], 2),
        ([(1000, 0), (1000, 0), (1000, 0)], 3),
    ],
    ids=["still", "space", "files", "files-not-counted"],
)
def test_it_is_looked_again_when_half_of_what_it_may_have_is_gone(
    monkeypatch: pytest.MonkeyPatch, free: list[tuple[int, int]], looks: int
) -> None:
    pauses(monkeypatch, looks=0.001, seldom=1_000_000)
    seen: list[str] = []
    left: list[tuple[int, int]] = []

    def look() -> tuple[str, tuple[int, int]]:
        seen.append("")
        return "", (100, 100)

    looked = Share(look, lambda: left[-1])
    for each in free:
        left.append(each)
        time.sleep(0.002)
        assert looked.used_up() == ""
    assert len(seen) == looks


def test_it_is_looked_now_and_then_whatever_the_disk_says(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses(monkeypatch, looks=0.0, seldom=0)
    looked = Share(lambda: ("it is too much", (100, 100)), lambda: (1000, 500))
    assert [looked.used_up(), looked.used_up()] == ["it is too much"] * 2


def pauses(monkeypatch: pytest.MonkeyPatch, *, looks: float, seldom: int) -> None:
    monkeypatch.setattr(share, "LOOK_SECONDS", looks)
    monkeypatch.setattr(share, "PAUSES", 0)
    monkeypatch.setattr(share, "SELDOM", seldom)
