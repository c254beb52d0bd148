"""Rules that say at which times something is due: a cron line in a time zone, or every so many seconds.

Pure. Times are microseconds since the epoch. Around a change of the clock a cron line does what Debian's cron does
(cronsim): what would fall into the hour that is left out comes when that hour is over, what falls into the hour that
comes twice runs once; lines whose minutes or hours begin with a star go by the time that has passed.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import Final, Protocol

from cronsim import CronSim, CronSimError

from service.errors import InvalidTask

MICROSECONDS: Final = 1_000_000
SHORTEST_SECONDS: Final = 1
LONGEST_SECONDS: Final = 366 * 86400
LONGEST_LINE: Final = 200
FIELDS: Final = 5
NICKNAMES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
UNITS: Final = ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))


class TimeRule(Protocol):
    """When something is due."""

    @property
    def words(self) -> str: ...

    def times(self, after: int) -> Iterator[int]:
        """All times after this one, each later than the one before."""
        ...


class Cron:
    def __init__(self, line: str, timezone: str) -> None:
        """Raises InvalidTask, naming the field, if there is no such time zone, or no time at which it is due."""
        self._zone = _zone(timezone)
        self._timezone = timezone
        self._line = _expanded(line)
        try:
            self._begin(0)
        except CronSimError as error:
            raise InvalidTask(f"cron: {line!r} is no cron line: {error}", field="cron") from error
        if next(self.times(0), None) is None:
            raise InvalidTask(f"cron: {line!r} is never due", field="cron")

    @property
    def words(self) -> str:
        return f"{self._begin(0).explain()}, {self._timezone}"

    def times(self, after: int) -> Iterator[int]:
        last = after
        for moment in self._begin(after):
            at = int(moment.timestamp()) * MICROSECONDS
            if at > last:  # two times of an hour that is left out come at the same moment
                last = at
                yield at

    def _begin(self, after: int) -> CronSim:
        return CronSim(self._line, datetime.fromtimestamp(after // MICROSECONDS, self._zone))


class Every:
    def __init__(self, seconds: float, anchor: int) -> None:
        """It keeps its phase: each time is a multiple of `seconds` after the anchor."""
        if not SHORTEST_SECONDS <= seconds <= LONGEST_SECONDS:
            raise InvalidTask("every: 1 second or more, at most 366 days", field="every")
        self._seconds = seconds
        self._step = round(seconds * MICROSECONDS)
        self._anchor = anchor

    @property
    def words(self) -> str:
        for size, unit in UNITS:
            count, rest = divmod(self._seconds, size)
            if count and not rest:
                return f"Every {unit}" if count == 1 else f"Every {count:.0f} {unit}s"
        return f"Every {self._seconds:g} seconds"

    def times(self, after: int) -> Iterator[int]:
        at = self._anchor + max(1, (after - self._anchor) // self._step + 1) * self._step
        while True:
            yield at
            at += self._step


@lru_cache(maxsize=256)
def rule(cron: str | None, every: float | None, timezone: str, anchor: int) -> TimeRule:
    """Raises InvalidTask, naming the field, if these make no rule."""
    if (cron is None) == (every is None):
        raise InvalidTask("cron: give either cron or every", field="cron")
    if every is not None:
        return Every(every, anchor)
    return Cron(cron or "", timezone)


def _expanded(line: str) -> str:
    """As five fields. More would not do what Debian's cron does, and seconds are what `every` is for."""
    expanded = NICKNAMES.get(line.strip().lower(), line)
    if len(line) > LONGEST_LINE or expanded.strip().startswith("@"):
        raise InvalidTask(
            f"cron: five fields, as in '0 3 * * *', or one of {', '.join(sorted(NICKNAMES))}", field="cron"
        )
    if (count := len(expanded.split())) != FIELDS:
        raise InvalidTask(
            f"cron: it has {count} fields, and takes five: minute, hour, day of month, month, day of week; "
            "for seconds there is `every`",
            field="cron",
        )
    return expanded


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo  # seldom needed, and large

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # OSError: the name of a folder of zones, or too long a name
        raise InvalidTask(
            f"timezone: {name[:100]!r} is no time zone that this host knows; as in Europe/Prague", field="timezone"
        ) from error
