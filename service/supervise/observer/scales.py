"""What the processes of each watcher weigh, with all that they have started: gunicorn's workers too.

The table of processes is read once a weighing, however many leaders there are. Processor time is measured
from one weighing to the next: psutil hands out the same object for a process as long as it lives.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import NamedTuple

import psutil


class Weight(NamedTuple):
    """What a watcher's processes take together: CPU in percent of a core, resident bytes, open files."""

    number: int = 0
    cpu: float = 0.0
    memory: int = 0
    descriptors: int = 0


class Scales:
    def weigh(self, leaders: Mapping[str, Iterable[int]]) -> dict[str, Weight]:
        self._processes: dict[int, psutil.Process] = {}
        self._children: dict[int | None, list[int]] = {}
        for process in psutil.process_iter(["ppid"]):
            self._processes[process.pid] = process
            self._children.setdefault(process.info["ppid"], []).append(process.pid)
        return {watcher: self._sum(self._families(pids)) for watcher, pids in leaders.items()}

    def _families(self, pids: Iterable[int]) -> Iterator[psutil.Process]:
        for pid in pids:
            if pid in self._processes:
                yield self._processes[pid]
                yield from self._families(self._children.get(pid, ()))

    def _sum(self, family: Iterable[psutil.Process]) -> Weight:
        total = Weight()
        for process in family:
            with suppress(psutil.Error), process.oneshot():
                cpu, memory, files = process.cpu_percent(), process.memory_info().rss, process.num_fds()
                total = Weight(total.number + 1, total.cpu + cpu, total.memory + memory, total.descriptors + files)
        return total
