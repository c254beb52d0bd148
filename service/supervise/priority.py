"""What starts gives way to what serves: the priority of processes on trial.

Linux weighs sessions against each other where it has autogroups, and processes by their nice values elsewhere.
Both are lowered, if they can be raised again: a nice value needs a privilege for that (or RLIMIT_NICE), an autogroup
needs none, but takes ten changes a second from those without.
"""

import os
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Final

LOW: Final = 10  # about a tenth of what a process that serves gets, where both want all of the processors


def lower(leader: int) -> bool:
    """Of the session and the group that it leads; tells whether there is something to restore."""
    lowered = False
    with suppress(OSError):
        _weigh_session(leader, LOW)
        lowered = True
    if _may_raise():
        with suppress(OSError):
            os.setpriority(os.PRIO_PGRP, leader, os.getpriority(os.PRIO_PROCESS, 0) + LOW)
            lowered = True
    return lowered


def restore(leader: int) -> bool:
    """Tells whether it is done; if not, it is to be tried again in a moment."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PGRP, leader, os.getpriority(os.PRIO_PROCESS, 0))
    try:
        _weigh_session(leader, 0)
    except BlockingIOError:
        return False
    except OSError:
        pass  # it has ended, or there are no autogroups
    return True


def _weigh_session(leader: int, nice: int) -> None:
    Path(f"/proc/{leader}/autogroup").write_text(str(nice))


@cache
def _may_raise() -> bool:
    """Tried by a thread, which has a nice value of its own."""
    outcome: list[bool] = []

    def attempt() -> None:
        usual = os.getpriority(os.PRIO_PROCESS, 0)
        try:
            os.setpriority(os.PRIO_PROCESS, 0, usual + 1)
            os.setpriority(os.PRIO_PROCESS, 0, usual)
        except OSError:
            return
        outcome.append(True)

    thread = Thread(target=attempt)
    thread.start()
    thread.join()
    return bool(outcome)
