"""Charts as the server draws them."""

import json

import pytest

from service.web.page.charts import SECONDS, Chart, Curve
from service.web.page.shown import NOTHING

MINUTES = [1_800_000_000 + 60 * number for number in range(4)]


def chart(*values: float | None, unit: str = "") -> Chart:
    return Chart("done", "Done", unit, MINUTES, [Curve("done", "good", values)], [(MINUTES[1], "reload")])


def test_a_curve_goes_from_edge_to_edge_and_up_to_the_highest_value() -> None:
    [(color, path)] = chart(0, 5, 10, 0).lines
    assert (color, path) == ("good", "M0.0 120.0 L133.3 62.0 L266.7 4.0 L400.0 120.0")


def test_a_curve_has_a_gap_where_nothing_was_measured_and_a_dash_between_two_gaps() -> None:
    assert chart(1, None, 1, 1).lines[0][1] == "M0.0 4.0 m-2 0h4 M266.7 4.0 L400.0 4.0"
    assert chart(None, None, None, None).is_empty and not chart(0, None, None, None).is_empty


def test_a_mark_stands_where_it_happened() -> None:
    assert chart(1, 1, 1, 1).places_of_marks == [("133.3", "reload")]


def test_the_table_has_every_number_newest_first() -> None:
    times, values = zip(*chart(1200, 0.5, None, 0).rows, strict=True)
    assert list(times) == sorted(times, reverse=True)
    assert [value for [value] in values] == ["0", NOTHING, "0.50", "1,200"]


@pytest.mark.parametrize(("value", "words"), [(0, "0"), (0.25, "250 ms"), (None, NOTHING)])
def test_seconds_are_written_as_a_span(value: float | None, words: str) -> None:
    assert chart(value, 1, 1, 1, unit=SECONDS).rows[-1][1] == [words]


def test_a_browser_gets_the_same_numbers() -> None:
    told = json.loads(chart(1, None, 3, 4).told)
    assert told["data"] == [MINUTES, [1, None, 3, 4]]
    assert told["series"] == [{"name": "done", "color": "--curve-good"}]
    assert told["marks"] == [{"at": MINUTES[1], "what": "reload"}]
