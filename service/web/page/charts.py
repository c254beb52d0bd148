"""Charts: curves over a time. The server draws them plainly; in a browser with JavaScript they can be asked.

Behind each stands a table with the same numbers.
"""

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, Final, NamedTuple

import msgspec

from service.tasks import moments
from service.web.page import shown

WIDTH: Final = 400
HEIGHT: Final = 120
DASH: Final = 4
SECONDS: Final = "s"

Number = float | None


class Curve(NamedTuple):
    """`color` is the name of one in page.css."""

    name: str
    color: str
    values: Sequence[Number]


class Chart(NamedTuple):
    """`marks` are moments at which something happened, in seconds, and what it was."""

    name: str
    title: str
    unit: str
    times: Sequence[int]
    curves: Sequence[Curve]
    marks: Sequence[tuple[int, str]] = ()

    @property
    def highest(self) -> float:
        return max((value for curve in self.curves for value in curve.values if value is not None), default=0.0)

    @property
    def is_empty(self) -> bool:
        return all(value is None for curve in self.curves for value in curve.values)

    @property
    def told(self) -> str:
        """For page.js."""
        series = [{"name": curve.name, "color": f"--curve-{curve.color}"} for curve in self.curves]
        told: dict[str, Any] = {
            "unit": self.unit,
            "least": 0.001 if self.unit == SECONDS else 1,
            "data": [self.times, *[curve.values for curve in self.curves]],
            "series": series,
            "marks": [{"at": at, "what": what} for at, what in self.marks],
        }
        return msgspec.json.encode(told).decode()

    @property
    def lines(self) -> list[tuple[str, str]]:
        """For each curve its colour, and its path. Where a value is missing, it begins anew; one alone is a dash."""
        return [(curve.color, " ".join(self._path(curve.values))) for curve in self.curves]

    def _path(self, values: Sequence[Number]) -> list[str]:
        words, draws, top = [], False, self.highest or 1.0
        for place, (value, following) in enumerate(zip_longest(values, values[1:])):
            if value is not None:
                across = WIDTH * place / max(1, len(values) - 1)
                words.append(f"{'L' if draws else 'M'}{across:.1f} {HEIGHT - (HEIGHT - 4) * value / top:.1f}")
                if not draws and following is None:
                    words.append(f"m-{DASH / 2:g} 0h{DASH}")
            draws = value is not None
        return words

    @property
    def places_of_marks(self) -> list[tuple[str, str]]:
        """How far to the right each mark stands, and what it is."""
        if len(self.times) < 2:
            return []
        first, last = self.times[0], self.times[-1]
        return [
            (f"{WIDTH * (at - first) / (last - first):.1f}", what) for at, what in self.marks if first <= at <= last
        ]

    @property
    def rows(self) -> list[tuple[str, list[str]]]:
        """The table, newest first."""
        places = range(len(self.times) - 1, -1, -1)
        return [
            (
                moments.stamp_exactly(self.times[place] * 1_000_000),
                [self.text(curve.values[place]) for curve in self.curves],
            )
            for place in places
        ]

    def text(self, value: Number) -> str:
        if value is None:
            return shown.NOTHING
        if self.unit == SECONDS:
            return shown.span(value) if value else "0"
        return shown.count(value) if value == round(value) else f"{value:.2f}"
