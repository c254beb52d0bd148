"""Who is at work on this Redis, and cannot read a newer layout: asked before that is written.

Each runner tells in the roster up to which layout it reads. One of an older release does not tell that, or stands in no
roster; then its consumer gives it away.
"""

from collections.abc import Sequence
from typing import Final

from service.store.queues import Queues
from service.store.roster import Roster

AT_WORK_SECONDS: Final = 600  # before 7.2, Redis counts no fetch that got nothing


class Census:
    def __init__(self, queues: Queues, roster: Roster, partitions: int, served: Sequence[str]) -> None:
        """`served` are the queues of the installation."""
        self._queues = queues
        self._roster = roster
        self._partitions = partitions
        self._served = served

    def unable(self, layout: int) -> list[str]:
        """The runners at work that cannot read this layout, as far as it can be seen."""
        told = {each.runner: each for each in self._roster.at_work()}
        queues = list(dict.fromkeys([*self._served, *(queue for each in told.values() for queue in each.queues)]))
        found = {name for name, each in told.items() if each.reads < layout}
        for partition in range(self._partitions):
            found |= self._queues.at_work(partition, queues, idle_ms=AT_WORK_SECONDS * 1000).difference(told)
        return sorted(found)
