"""One row per comparison, and the table that shows them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

MISSED: Final = "**missed**"
HEADER: Final = ("what", "sandbox", "against", "", "ratio", "bar", "aim", "")


@dataclass(frozen=True)
class Unit:
    """How a number is written, and whether more is better."""

    show: Callable[[float], str]
    more_is_better: bool = True


PER_SECOND: Final = Unit(lambda number: f"{number:,.0f}/s")
TENTHS_PER_SECOND: Final = Unit(lambda number: f"{number:.1f}/s")
MILLISECONDS: Final = Unit(lambda number: f"{number:.2f} ms", more_is_better=False)
MICROSECONDS: Final = Unit(lambda number: f"{number:.1f} µs", more_is_better=False)
MEGABYTES: Final = Unit(lambda number: f"{number:.1f} MB", more_is_better=False)
SECONDS: Final = Unit(lambda number: f"{number:.1f} s", more_is_better=False)
BYTES: Final = Unit(lambda number: f"{number:,.0f} B", more_is_better=False)
TENTHS_OF_BYTES: Final = Unit(lambda number: f"{number:.1f} B", more_is_better=False)


@dataclass(frozen=True)
class Row:
    """A figure with its samples. Bar and aim, where there are any, are for the ratio to the
    peer, or for the figure itself if there is no peer or `absolute` is set."""

    what: str
    unit: Unit
    samples: Sequence[float]
    peer: str = ""
    peer_samples: Sequence[float] = ()
    bar: float | None = None
    aim: float | None = None
    absolute: bool = False

    @property
    def ratio(self) -> float | None:
        if not self.samples or not self.peer_samples:
            return None
        ours, theirs = median(self.samples), median(self.peer_samples)
        return ours / theirs if ours > 0 and theirs > 0 else None

    @property
    def judged(self) -> float:
        return median(self.samples) if self._is_absolute else self.ratio or 0.0

    @property
    def _is_absolute(self) -> bool:
        return self.absolute or not self.peer

    @property
    def verdict(self) -> str:
        if self.bar is None:
            return ""
        if self.aim is not None and self._reaches(self.aim):
            return "aim reached"
        return "bar reached" if self._reaches(self.bar) else MISSED

    def _reaches(self, wanted: float) -> bool:
        return self.judged >= wanted if self.unit.more_is_better else self.judged <= wanted

    def cells(self) -> tuple[str, ...]:
        return (
            self.what,
            self._figure(self.samples),
            self.peer,
            self._figure(self.peer_samples),
            _times(self.ratio),
            self._wanted(self.bar),
            self._wanted(self.aim),
            self.verdict,
        )

    def _figure(self, samples: Sequence[float]) -> str:
        if not samples:
            return ""
        show = self.unit.show
        spread = f" ({show(min(samples))} to {show(max(samples))})" if len(samples) > 1 else ""
        return show(median(samples)) + spread

    def _wanted(self, number: float | None) -> str:
        if number is None:
            return ""
        return self.unit.show(number) if self._is_absolute else _times(number)


def _times(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.3g} \N{MULTIPLICATION SIGN}"


def markdown(rows: Iterable[Row]) -> str:
    return table([HEADER, *[row.cells() for row in rows]])


def table(cells: Sequence[Sequence[str]]) -> str:
    """Of cells; the first row is the header."""
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    lines.insert(1, "| " + " | ".join("-" * max(3, width) for width in widths) + " |")
    return "\n".join(lines) + "\n"
