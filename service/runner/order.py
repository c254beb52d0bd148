"""In which order a lane asks for the lines of its queues: one order for each fetch. Nothing starves.

Queues: strictly in the order of the setting; or by their weights, each coming first as often as its weight says, and
evenly spread. Whatever comes first, the others follow in the order of the setting: no fetch comes back empty while
there is something.

Priorities: of ten fetches seven begin with `high`, two with `normal`, one with `low`. What was handed back comes
before them all.
"""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from service.tasks.document import HIGH, LOW, NORMAL, PRIORITIES

_FIRST: Final = (HIGH, HIGH, HIGH, NORMAL, HIGH, HIGH, LOW, HIGH, NORMAL, HIGH)
_PRIORITIES: Final = {
    first: (first, *(priority for priority in PRIORITIES if priority != first)) for first in PRIORITIES
}


class Turn(NamedTuple):
    """What one fetch asks for, in this order."""

    queues: tuple[str, ...]
    priorities: tuple[str, ...]


class Order:
    def __init__(self, queues: Sequence[str], weights: Mapping[str, int] | None = None) -> None:
        self.queues = tuple(queues)
        self._weights = dict(weights or {})
        self._total = sum(self._weights.values())
        self._credits = dict.fromkeys(self._weights, 0)
        self._led_by = {first: (first, *(each for each in self.queues if each != first)) for first in self.queues}
        self._leads = dict.fromkeys(self.queues, 0)

    def next(self) -> Turn:
        first = self._heaviest() if self._weights else self.queues[0]
        count = self._leads[first]  # each queue's own: with one for all, a queue might meet the same priority each time
        self._leads[first] = count + 1
        return Turn(self._led_by[first], _PRIORITIES[_FIRST[count % len(_FIRST)]])

    def _heaviest(self) -> str:
        """Each earns its weight, and who leads pays for all: so a heavy one does not lead many times in a row."""
        for queue, weight in self._weights.items():
            self._credits[queue] += weight
        first = max(self._credits, key=self._credits.__getitem__)
        self._credits[first] -= self._total
        return first
