"""A module of task types that has one duty of the upkeep take minutes, as where many partitions do not answer."""

import time

from service.runner.sweep import Sweep


def sweep(self: Sweep) -> bool:
    time.sleep(600)
    return False


Sweep.sweep = sweep  # type: ignore[method-assign]
