"""What the processes of each watcher weigh, with all that they have started: gunicorn's workers too."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress

import psutil

from service.metrics import Weight


class Scales:
    def __init__(self) -> None:
        # Processor time is measured from one weighing to the next: the same object is asked again.
        self._known: dict[psutil.Process, psutil.Process] = {}

    def weigh(self, leaders: Mapping[str, Iterable[int]]) -> dict[str, Weight]:
        families = {watcher: list(self._families(pids)) for watcher, pids in leaders.items()}
        self._known = {process: process for family in families.values() for process in family}
        return {watcher: self._sum(family) for watcher, family in families.items()}

    def _families(self, pids: Iterable[int]) -> Iterator[psutil.Process]:
        for pid in pids:
            with suppress(psutil.Error):
                leader = psutil.Process(pid)
                for process in (leader, *leader.children(recursive=True)):
                    yield self._known.get(process, process)

    def _sum(self, family: Iterable[psutil.Process]) -> Weight:
        total = Weight()
        for process in family:
            with suppress(psutil.Error), process.oneshot():
                cpu, memory, files = process.cpu_percent(), process.memory_info().rss, process.num_fds()
                total = Weight(total.number + 1, total.cpu + cpu, total.memory + memory, total.descriptors + files)
        return total
