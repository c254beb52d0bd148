"""What waits, runs and is scheduled in a queue."""

from typing import NamedTuple


class Backlog(NamedTuple):
    """A queue's tasks, and since how many seconds the one at its head has been waiting."""

    depth: int = 0
    running: int = 0
    scheduled: int = 0
    oldest: float = 0.0
