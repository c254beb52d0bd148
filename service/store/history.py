"""What became of tasks over the time: minute by minute for two days, hour by hour for a month, and in all.

A series is a queue and a type. Its records are strings in which each number has its place (BITFIELD); a key holds the
minutes of an hour, or the hours of a day. So a series takes about 350 KB a day, whatever the rate. A bucket of a minute
has three bytes: in two, which is usual, a type that runs a thousand times a second would be too much.

Everything lies in the slot of partition 0. It is written each few seconds, and never task by task.
"""

import secrets
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from service.store import keys, tally
from service.store.connection import Wire
from service.store.scripts import GAUGES, HISTORY
from service.store.tally import ALL, LENGTH, OTHER, Counted, Tally
from service.tasks.document import Task

MOST_SERIES: Final = 200
HOUR: Final = 3600
DAY: Final = 24 * HOUR
MINUTES_KEPT: Final = 2 * DAY
HOURS_KEPT: Final = 31 * DAY
MOST_MARKS: Final = 1000
SENT_AGAIN_SECONDS: Final = 10

GAUGE_SECONDS: Final = 15
GAUGE_BYTES: Final = 6
GAUGE_NUMBERS: Final = 4
QUEUE_GAUGES: Final = ("depth", "running", "scheduled", "oldest")
RUNNER_GAUGES: Final = ("runners", "lanes", "busy", "memory")
OF_QUEUE: Final = "queue:"  # what a gauge's series begins with; no type, nor a queue, has a colon
RUNNERS: Final = "runners"

_decode = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.Encoder().encode


class Scale(NamedTuple):
    """How records of one kind lie in Redis: `slots` of them in a key, of so many seconds each."""

    name: str
    seconds: int
    slots: int
    kept: int
    widths: tuple[int, ...]  # the bytes of each number

    @property
    def size(self) -> int:
        return sum(self.widths)

    def place(self, slot: int) -> tuple[int, int]:
        """The number of the key, and the record in it."""
        return divmod(slot, self.slots)

    def before(self, place: int) -> str:
        """What stands in a key before the series."""
        return f"{self.name}:{place}:"


def _widths(ends: int, sums: int, bucket: int) -> tuple[int, ...]:
    of_ends = len(tally.ENDS) * (ends,)
    return of_ends + len(tally.TIMES) * (sums,) + (LENGTH - tally.HISTOGRAMS) * (bucket,)


MINUTES: Final = Scale("minutes", 60, 60, MINUTES_KEPT + 2 * HOUR, _widths(4, 7, 3))
HOURS: Final = Scale("hours", HOUR, 24, HOURS_KEPT + 2 * DAY, _widths(5, 7, 4))
IN_ALL: Final = Scale("all", 2**40, 1, HOURS_KEPT, _widths(6, 7, 6))
FINE: Final = Scale("gauges", GAUGE_SECONDS, HOUR // GAUGE_SECONDS, MINUTES_KEPT + 2 * HOUR, GAUGE_NUMBERS * (6,))
COARSE: Final = Scale("peaks", HOUR, 24, HOURS_KEPT + 2 * DAY, GAUGE_NUMBERS * (6,))


class History:
    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    # --- write -----------------------------------------------------------------------------------

    def add(self, writer: str, number: int, counted: Sequence[Counted], remembered: int = HOUR) -> None:
        """A batch of a writer's, which counts its batches. It may be sent again: it is added once."""
        head = (number, remembered, int(time.time()), HOURS_KEPT, MOST_SERIES, ALL, OTHER, keys.history())
        names = (keys.history_series(), keys.history_writer(writer))
        words = [word for each in counted for scale in (MINUTES, HOURS, IN_ALL) for word in _record(each, scale)]
        self._wire.call(0, HISTORY.call(names, (*head, *words)))

    def cancelled(self, tasks: Sequence[Task]) -> None:
        """What a client has cancelled: no runner sees the end of these."""
        if tasks:
            count = Tally()
            count.outcomes(time.time(), tasks, [""] * len(tasks))
            self.add_once(count)

    def add_once(self, count: Tally) -> None:
        """All that was counted, where no other batch follows."""
        self.add(secrets.token_hex(8), 1, count.take(), SENT_AGAIN_SECONDS)

    def gauge(self, now: float, measured: Mapping[str, Sequence[float]]) -> None:
        """One more than was measured: 0 stands where nothing was."""
        head: list[Any] = [int(now), HOURS_KEPT, MOST_SERIES, keys.history(), GAUGE_NUMBERS, f"u{8 * GAUGE_BYTES}"]
        for scale in (FINE, COARSE):
            place, record = scale.place(int(now) // scale.seconds)
            head += (scale.before(place), scale.kept, 8 * scale.size * record)
        words: list[Any] = [8 * GAUGE_BYTES]
        for series, numbers in measured.items():
            words += (series, *[round(number) + 1 for number in numbers])
        self._wire.call(0, GAUGES.call([keys.history_gauges()], (*head, *words)))

    def mark(self, at: int, facts: Mapping[str, Any]) -> None:
        """Something that happened at a moment, in microseconds. The same mark may be written again."""
        name = keys.history_marks()
        oldest = at - HOURS_KEPT * 1_000_000
        self._wire.call(
            0,
            ("ZADD", name, at, _encode(facts)),
            ("ZREMRANGEBYSCORE", name, "-inf", oldest),
            ("ZREMRANGEBYRANK", name, 0, -MOST_MARKS - 1),
        )

    # --- read ------------------------------------------------------------------------------------

    def series(self) -> tuple[list[str], list[str]]:
        """The names: of what is counted, and of what is measured."""
        counted, measured = self._wire.call(
            0, ("ZRANGE", keys.history_series(), 0, -1), ("ZRANGE", keys.history_gauges(), 0, -1)
        )
        return sorted(name.decode() for name in counted), sorted(name.decode() for name in measured)

    def counts(self, series: str, scale: Scale, first: int, last: int) -> list[list[int]]:
        """The records of these slots, oldest first: those of a minute or an hour each, since the epoch."""
        return [_numbers(text, scale) if text else [0] * LENGTH for text in self._records(series, scale, first, last)]

    def gauges(self, series: str, scale: Scale, first: int, last: int) -> list[list[int] | None]:
        """None where nothing was measured."""
        found = [_numbers(text, scale) for text in self._records(series, scale, first, last)]
        return [[number - 1 for number in numbers] if any(numbers) else None for numbers in found]

    def in_all(self) -> dict[str, list[int]]:
        """Of each series, what was counted since it came up."""
        names = [name for name in self.series()[0] if name != ALL]
        if not names:
            return {}
        [texts] = self._wire.call(0, ("MGET", *[keys.history(f"{IN_ALL.before(0)}{name}") for name in names]))
        return {name: _numbers(text, IN_ALL) for name, text in zip(names, texts, strict=True) if text}

    def marks(self, since: int, until: int) -> list[dict[str, Any]]:
        """From the oldest on; moments in microseconds."""
        [found] = self._wire.call(0, ("ZRANGEBYSCORE", keys.history_marks(), since, until))
        return [_decode(text) for text in found]

    def _records(self, series: str, scale: Scale, first: int, last: int) -> list[bytes]:
        begin, end = first // scale.slots, last // scale.slots
        names = [keys.history(f"{scale.before(place)}{series}") for place in range(begin, end + 1)]
        [texts] = self._wire.call(0, ("MGET", *names))
        found = []
        for slot in range(first, last + 1):
            place, record = scale.place(slot)
            text = texts[place - begin] or b""
            found.append(text[record * scale.size : (record + 1) * scale.size])
        return found


def _record(counted: Counted, scale: Scale) -> list[Any]:
    """The part of the script's arguments that adds to one record."""
    place, record = scale.place(counted.minute * 60 // scale.seconds)
    bit = 8 * scale.size * record
    words: list[Any] = []
    for number, width in zip(counted.numbers, scale.widths, strict=True):
        if number:
            words += ("INCRBY", f"u{8 * width}", bit, number)
        bit += 8 * width
    return [counted.series, scale.before(place), scale.kept, len(words) + 2, "OVERFLOW", "SAT", *words]


def _numbers(text: bytes, scale: Scale) -> list[int]:
    """Redis leaves out what is 0 at the end of a string."""
    numbers, at = [], 0
    whole = text.ljust(scale.size, b"\0")
    for width in scale.widths:
        numbers.append(int.from_bytes(whole[at : at + width]))
        at += width
    return numbers
