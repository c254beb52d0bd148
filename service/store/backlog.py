"""What waits, runs and is scheduled in a queue."""

from collections.abc import Iterable
from typing import NamedTuple

from service.store import keys
from service.store.connection import Wire, rows
from service.store.keys import GROUP
from service.store.scripts import BACKLOG
from service.tasks.document import QUEUED, RUNNING, SCHEDULED


class Backlog(NamedTuple):
    """A queue's tasks, since how many seconds the one at its head has been waiting, and whether (1) it is paused."""

    depth: int = 0
    running: int = 0
    scheduled: int = 0
    oldest: float = 0.0
    paused: int = 0


def measure(wire: Wire, partitions: int, queues: Iterable[str]) -> dict[str, Backlog]:
    """The backlog of these queues, and of any other that has tasks."""
    sizes: dict[str, dict[str, int]] = {queue: {} for queue in queues}
    oldest: dict[str, float] = {}
    paused: set[str] = set()
    for partition in range(partitions):
        places = (keys.shelf(partition, ""), *keys.streams(partition, [""]))
        command = BACKLOG.call([keys.shelves(partition), keys.pauses(partition)], (GROUP, *places))
        [[now, counts, heads, pauses]] = wire.call(partition, command)
        paused.update(map(bytes.decode, pauses))
        for queue, status, count in rows(counts, 3):
            size = sizes.setdefault(queue.decode(), {})
            size[status.decode()] = size.get(status.decode(), 0) + count
        for queue, queued_at in rows(heads, 2):
            seconds = max(0, now - queued_at) / 1000
            oldest[queue.decode()] = max(seconds, oldest.get(queue.decode(), 0.0))
    return {
        queue: Backlog(
            depth=size.get(QUEUED, 0),
            running=size.get(RUNNING, 0),
            scheduled=size.get(SCHEDULED, 0),
            oldest=oldest.get(queue, 0.0),
            paused=int(queue in paused),
        )
        for queue, size in sizes.items()
    }
