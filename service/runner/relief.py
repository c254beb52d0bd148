"""When a long task holds up its lane: nothing waits behind it, and no outcome waits for its end."""

from collections.abc import Sequence

from service.runner.lane import Lane
from service.runner.stop import Stop
from service.runner.upkeep import Upkeep
from service.store import to_each


class Relief:
    def __init__(self, lanes: Sequence[Lane], stopping: Stop) -> None:
        self._lanes = lanes
        self._stopping = stopping

    def register(self, upkeep: Upkeep) -> None:
        upkeep.every(0.0, self.relieve)

    def relieve(self) -> None:
        to_each(self._lanes, self._relieve)

    def _relieve(self, lane: Lane) -> None:
        late = lane.is_behind()
        if late and lane.running is not None and lane.holdings.ended:
            lane.holdings.settle_ended()
        if lane.holdings.waiting and (late or self._stopping.is_set()):
            lane.holdings.hand_back_waiting()
