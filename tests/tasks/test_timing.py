"""Rules of time: cron lines at both ends of summer time, and `every`."""

from datetime import UTC, datetime
from itertools import islice
from zoneinfo import ZoneInfo

import pytest

from service.errors import InvalidTask
from service.tasks.timing import NICKNAMES, Cron, Every, TimeRule, rule

BERLIN = ZoneInfo("Europe/Berlin")


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1_000_000)


def times(of: TimeRule, after: str, count: int, zone: ZoneInfo = BERLIN) -> list[str]:
    """By the clock on the wall."""
    found = islice(of.times(at(after)), count)
    return [datetime.fromtimestamp(each / 1e6, zone).strftime("%d. %H:%M%z") for each in found]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("30 2 * * *", ["29. 03:00+0200", "30. 02:30+0200"]),
        ("0,30 2 * * *", ["29. 03:00+0200", "30. 02:00+0200"]),  # both fall into the hour that is not
        ("0 3 * * *", ["29. 03:00+0200", "30. 03:00+0200"]),
        ("30 * * * *", ["29. 00:30+0100", "29. 01:30+0100", "29. 03:30+0200"]),
        ("*/30 * * * *", ["29. 00:30+0100", "29. 01:00+0100", "29. 01:30+0100", "29. 03:00+0200"]),
    ],
)
def test_what_falls_into_the_hour_that_is_left_out_comes_when_it_is_over(line: str, expected: list[str]) -> None:
    assert times(Cron(line, "Europe/Berlin"), "2026-03-29T00:00:00+01:00", len(expected)) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("30 2 * * *", ["25. 02:30+0200", "26. 02:30+0100"]),
        ("0 3 * * *", ["25. 03:00+0100", "26. 03:00+0100"]),
        ("30 * * * *", ["25. 01:30+0200", "25. 02:30+0200", "25. 02:30+0100", "25. 03:30+0100"]),
        ("15 */2 * * *", ["25. 02:15+0200", "25. 02:15+0100", "25. 04:15+0100"]),
    ],
)
def test_what_falls_into_the_hour_that_comes_twice_runs_once_if_its_hour_is_named(
    line: str, expected: list[str]
) -> None:
    assert times(Cron(line, "Europe/Berlin"), "2026-10-25T00:40:00+02:00", len(expected)) == expected


@pytest.mark.parametrize("after", ["2026-10-25T02:10:00+01:00", "2026-10-25T02:30:00+02:00"])
def test_who_looks_in_the_second_hour_does_not_run_it_again(after: str) -> None:
    assert times(Cron("30 2 * * *", "Europe/Berlin"), after, 1) == ["26. 02:30+0100"]


@pytest.mark.parametrize("line", ["30 2 * * *", "*/20 * * * *", "5 */3 * * *", "30 0,2 * * 0", "@hourly", "@daily"])
@pytest.mark.parametrize("day", ["2026-03-28", "2026-10-24"])
def test_wherever_one_begins_the_times_are_the_same_and_each_is_later(line: str, day: str) -> None:
    """So it does not matter which runner looks, nor when."""
    begin, end = at(f"{day}T12:00:00Z"), at(f"{day}T12:00:00Z") + 2 * 86400 * 1_000_000
    of = Cron(line, "Europe/Berlin")
    whole = [each for each in islice(of.times(begin), 200) if each <= end]
    assert whole == sorted(set(whole))
    for moment in range(begin, end, 29 * 60 * 1_000_000):
        assert next(of.times(moment)) == next(each for each in of.times(begin) if each > moment)


def test_every_keeps_its_phase_across_a_change_of_the_clock() -> None:
    anchor = at("2026-03-28T00:10:00+01:00")
    assert times(Every(6 * 3600, anchor), "2026-03-28T20:00:00+01:00", 2) == ["29. 00:10+0100", "29. 07:10+0200"]
    assert list(islice(Every(90, 1000).times(1000), 2)) == [90_001_000, 180_001_000]
    assert next(Every(90, 1000).times(-5)) == 90_001_000


@pytest.mark.parametrize(
    ("of", "words"),
    [
        (Cron("0 3 * * *", "Europe/Prague"), "At 03:00 every day, Europe/Prague"),
        (Cron("@hourly", "UTC"), "At the start of every hour, UTC"),
        (Cron("*/5 9-17 * * MON-FRI", "UTC"), None),
        (Every(1, 0), "Every second"),
        (Every(90, 0), "Every 90 seconds"),
        (Every(7200, 0), "Every 2 hours"),
        (Every(1.5, 0), "Every 1.5 seconds"),
    ],
)
def test_a_rule_has_words(of: TimeRule, words: str | None) -> None:
    assert of.words == words if words else "Monday" in of.words


@pytest.mark.parametrize("name", sorted(NICKNAMES))
def test_cron_knows_the_nicknames(name: str) -> None:
    assert next(Cron(name.upper(), "UTC").times(at("2026-06-01T10:10:00Z"))) > 0


@pytest.mark.parametrize(
    ("line", "zone", "field", "says"),
    [
        ("0 0 3 * * *", "UTC", "cron", "6 fields"),
        ("* * * *", "UTC", "cron", "4 fields"),
        ("", "UTC", "cron", "0 fields"),
        ("@reboot", "UTC", "cron", "@daily"),
        ("61 * * * *", "UTC", "cron", "Bad minute"),
        ("0 0 30 2 *", "UTC", "cron", "Bad day"),
        ("0 3 * * *", "Mars/Olympus", "timezone", "Mars/Olympus"),
        ("0 3 * * *", "../../etc/passwd", "timezone", "time zone"),
        ("0 3 * * *", "Europe", "timezone", "time zone"),
        ("0 3 * * *", "", "timezone", "time zone"),
        ("0 " * 101, "UTC", "cron", "five fields"),
    ],
)
def test_what_is_no_rule_is_refused_with_the_field(line: str, zone: str, field: str, says: str) -> None:
    with pytest.raises(InvalidTask, match=says) as refused:
        Cron(line, zone)
    assert refused.value.field == field


def test_one_of_both_is_needed() -> None:
    for cron, every in ((None, None), ("@daily", 5.0)):
        with pytest.raises(InvalidTask, match="either"):
            rule(cron, every, "UTC", 0)
    for every in (0.5, 400 * 86400.0):
        with pytest.raises(InvalidTask, match="every"):
            rule(None, every, "UTC", 0)


def test_a_leap_day_comes_in_a_leap_year() -> None:
    found = next(Cron("0 0 29 2 *", "UTC").times(at("2026-01-01T00:00:00Z")))
    assert datetime.fromtimestamp(found / 1e6, UTC).year == 2028
