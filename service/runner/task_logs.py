"""Stores what running attempts have said, in batches. What an attempt says last is stored as it is settled."""

from collections.abc import Sequence
from typing import Final

from service.runner.lane import Lane
from service.runner.upkeep import Upkeep
from service.store import to_each

WRITE_SECONDS: Final = 0.4


class TaskLogs:
    def __init__(self, lanes: Sequence[Lane]) -> None:
        self._lanes = lanes

    def register(self, upkeep: Upkeep) -> None:
        upkeep.every(WRITE_SECONDS, self.write)

    def write(self) -> None:
        to_each(self._lanes, self._write)

    def _write(self, lane: Lane) -> None:
        running = lane.running
        if running is not None and running.is_long() and (lines := running.context.lines) is not None:
            lane.holdings.write_lines(running.held.entry.uid, lines)
