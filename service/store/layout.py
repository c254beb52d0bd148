"""Whose data is in Redis, and how it is laid out: a record that every process compares before it touches a task.

A release reads every layout up to READS, and writes WRITES. It refuses a Redis in which a newer layout may be
found, and it writes a newer layout only after a release that reads it has been at work there. What is new in a layout
may also be written by whoever first uses it (`need`): where nobody does, the way back stays open. docs/store.md says
how the layout is changed.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from service.errors import StoreUnavailable, WrongRedis
from service.store import keys
from service.store.connection import Command, Subscription, Wire
from service.store.scripts import LAYOUT, PROBE

READS: Final = 3
WRITES: Final = 1
ORDER: Final = 2  # the layout that has priorities, pauses and lots
LIMITS: Final = 3  # the layout that has limits, and places at which tasks wait
COMPARE_SECONDS: Final = 60.0
AGAIN_SECONDS: Final = 1.0
MOST_NAMED: Final = 5
FIRST: Final = 1  # of releases that left no record


class Record(msgspec.Struct, frozen=True):
    """What stands in Redis: the newest layout that may be found there, and the newest that the last release reads."""

    name: str
    partitions: int
    layout: int
    reads: int


class OlderAtWork(StoreUnavailable):
    """An older release works on this Redis, and could not find what is to be written."""


class Seen(NamedTuple):
    text: bytes
    record: Record | None


class Layout:
    def __init__(self, wire: Wire, *, name: str, partitions: int, reads: int = READS, writes: int = WRITES) -> None:
        self._wire = wire
        self._name = name
        self._partitions = partitions
        self._reads = reads
        self._writes = writes

    def judge(self) -> Seen:
        """Raises WrongRedis unless this release may work here."""
        seen = self._read()
        if seen.record is not None:
            self._compare(seen.record)
        return seen

    def claim(self) -> None:
        """Writes down whose Redis this is from now on. Of two that find it empty, one is refused."""
        self._write(self._writes)

    def need(self, layout: int, unable: Callable[[int], Sequence[str]]) -> None:
        """Writes down that this layout may be found from now on: older releases refuse this Redis then. Raises
        OlderAtWork if the release that started last is one of them, or if one of them is at work: `unable` names those
        runners.
        """
        self._write(layout, unable)

    def _refuse_older(self, seen: Record, layout: int, unable: Callable[[int], Sequence[str]]) -> None:
        if seen.layout >= layout:
            return
        if seen.reads < layout:
            raise OlderAtWork(
                f"an older release works on this Redis, and could not find what this is to write (layout {layout}); it "
                "can be done when every host has this release"
            )
        if runners := unable(layout):
            raise OlderAtWork(
                f"runners of an older release are at work on {_hosts(runners)}, and could not find what this is to "
                f"write (layout {layout}): install this release there, or stop them; then do it again. One that was "
                "killed counts until its tasks are taken over, or for ten minutes",
                ", ".join(runners[:MOST_NAMED]),
            )

    def _write(self, at_least: int, unable: Callable[[int], Sequence[str]] = lambda _: ()) -> None:
        while True:
            seen = self.judge()
            if seen.record is not None and at_least > self._writes:
                self._refuse_older(seen.record, at_least, unable)
            layout = max(at_least, seen.record.layout if seen.record else FIRST)
            wanted = msgspec.json.encode(Record(self._name, self._partitions, layout, self._reads))
            if seen.text == wanted:
                return
            [is_stored] = self._wire.call(0, LAYOUT.call([keys.layout()], [seen.text, wanted]))
            if is_stored:
                return

    def _read(self) -> Seen:
        [text] = self._wire.call(0, ("GET", keys.layout()))
        if text is None:
            return Seen(b"", Record(self._name, self._partitions, FIRST, FIRST) if self._has_tasks() else None)
        try:
            return Seen(text, msgspec.json.decode(text, type=Record))
        except msgspec.MsgspecError as error:
            raise WrongRedis(
                f"{keys.layout()} in Redis is {text[:200]!r}, which this release does not understand: "
                "give this installation a Redis of its own (REDIS_URL)"
            ) from error

    def _has_tasks(self) -> bool:
        return any(
            self._wire.call(partition, ("EXISTS", keys.shelves(partition))) != [0]
            for partition in range(self._partitions)
        )

    def _compare(self, there: Record) -> None:
        if there.name != self._name:
            raise WrongRedis(
                f"Redis holds the tasks of the installation {there.name!r}, and this one is {self._name!r}: give it "
                "a Redis of its own (REDIS_URL), or the same SANDBOX_NAME if both are one"
            )
        if there.partitions != self._partitions:
            raise WrongRedis(
                f"the tasks in Redis lie in {there.partitions} partitions, and SANDBOX_PARTITIONS is "
                f"{self._partitions}: set it to {there.partitions}"
            )
        if there.layout > self._reads:
            raise WrongRedis(
                f"Redis holds tasks in layout {there.layout}, and this release reads layouts up to {self._reads}: "
                "install the newer release that wrote them"
            )
        if there.reads < self._writes > there.layout:
            raise WrongRedis(
                f"this release writes layout {self._writes}, and the one that works on this Redis reads layouts up "
                f"to {there.reads}: first install a release in between, which reads both"
            )


def _hosts(runners: Sequence[str]) -> str:
    """A consumer's name begins with its host."""
    hosts = sorted({name.partition(":")[0] for name in runners})
    return ", ".join(hosts[:MOST_NAMED]) + (", …" if len(hosts) > MOST_NAMED else "")


class GuardedWire:
    """Nothing is sent before the record was compared, and no script before Redis is claimed.

    A process on trial sends no script but the probe: a release that is refused leaves the record as it was. The record
    is compared again once a minute: it may be another one by now, or gone with all the data.
    """

    def __init__(self, wire: Wire, layout: Layout) -> None:
        self._wire = wire
        self._layout = layout
        self._is_claimed = False
        self._needed = 0
        self._compare_at = 0.0
        self.unable: Callable[[int], Sequence[str]] = lambda _: ()  # the runners that cannot read a layout

    def need(self, layout: int) -> None:
        """Written down once: what it allows may be found from now on."""
        if self._needed < layout:
            if not self._is_claimed:
                self.claim()
            self._layout.need(layout, self.unable)
            self._needed = layout

    def call(self, partition: int, *commands: Command, wait_seconds: float = 0, once: bool = False) -> list[Any]:
        if not self._is_claimed or time.monotonic() >= self._compare_at:
            self._admit(partition, commands)
        return self._wire.call(partition, *commands, wait_seconds=wait_seconds, once=once)

    def together(self, partitions: int) -> list[list[int]]:
        return self._wire.together(partitions)

    def subscribe(self, partition: int, channel: str) -> Subscription:
        self._admit(partition, ())
        return self._wire.subscribe(partition, channel)

    def close(self) -> None:
        self._wire.close()

    def claim(self) -> None:
        self._layout.claim()
        self._is_claimed = True
        self._compare_at = time.monotonic() + COMPARE_SECONDS

    def _admit(self, partition: int, commands: tuple[Command, ...]) -> None:
        if not self._is_claimed and any(map(_claims, commands)):
            self.claim()
        elif time.monotonic() >= self._compare_at:
            if self._compare_at:  # it was compared before: one asks, and the others go on
                self._compare_at = time.monotonic() + COMPARE_SECONDS
            self._compare(partition)

    def _compare(self, partition: int) -> None:
        """When it fails, whoever comes next compares as if it were the first time. The record lies in partition 0:
        while that is away, the others go on as they were.
        """
        try:
            seen = self._layout.judge()
            if self._is_claimed and not seen.text:
                self._layout.claim()
                self._needed = 0
        except BaseException as error:
            is_away = isinstance(error, StoreUnavailable) and not isinstance(error, WrongRedis)
            if is_away and partition != 0 and self._is_claimed:
                self._compare_at = time.monotonic() + AGAIN_SECONDS
                return
            self._compare_at = 0.0
            raise
        self._compare_at = time.monotonic() + COMPARE_SECONDS


def _claims(command: Command) -> bool:
    """Any script but the probe."""
    return command[0] == "EVALSHA" and command[1] != PROBE.digest
