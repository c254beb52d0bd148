"""Processes of a user, and how they end."""

import contextlib
import glob
import os
import re
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from steward.as_user import become
from steward.errors import Refused

KILL_SECONDS: Final = 10


def processes(uid: int) -> list[int]:
    """Those that live and have this user, in one way or another."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            status = (folder / "status").read_text()
        except OSError:
            continue
        numbers = re.search(r"^Uid:\s+(.*)$", status, re.MULTILINE)
        dead = re.search(r"^State:\s+[ZX]", status, re.MULTILINE)
        if numbers and not dead and str(uid) in numbers[1].split():
            found.append(int(folder.name))
    return sorted(found)


def held_mb(pids: Iterable[int], device: int) -> int:
    """What files without a name take of this disk, while a process or a thread of it has them open or mapped."""
    blocks: dict[int, int] = {}
    for pid in pids:
        for where in ("task/*/fd", "map_files"):
            for path in glob.iglob(f"/proc/{pid}/{where}/*"):
                with contextlib.suppress(OSError):
                    found = os.stat(path)
                    if found.st_nlink == 0 and found.st_dev == device:
                        blocks[found.st_ino] = found.st_blocks
    return sum(blocks.values()) >> 11


def kill_all(uid: int) -> None:
    """One call for all of a user's processes: a fork bomb is not quicker."""
    until = time.monotonic() + KILL_SECONDS
    while processes(uid):
        if time.monotonic() > until:
            raise Refused(f"{len(processes(uid))} processes do not end")
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                become(uid)
                os.kill(-1, signal.SIGKILL)
            os._exit(0)
        os.waitpid(child, 0)
        time.sleep(0.01)


def send(pid: int, signum: int, is_it: Callable[[], bool]) -> bool:
    """Signals a process if, once it is held, it is still the one that is meant: its number may be another's by then."""
    try:
        held = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        meant = is_it()
        if meant:
            signal.pidfd_send_signal(held, signum)
    except ProcessLookupError:
        return False
    finally:
        os.close(held)
    return meant


def parent_of(pid: int) -> int | None:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return None
    found = re.search(r"^PPid:\s+(\d+)$", status, re.MULTILINE)
    return int(found[1]) if found else None


def child_of(pid: int) -> int | None:
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return None
    return int(found[0]) if found else None
