"""Calls fsync on the embedded Redis's append-only files once a second.

A program of its own, which imports next to nothing: python sync.py FOLDER
"""

import os
import select
import sys
import time
from contextlib import suppress

SYNC_SECONDS = 1.0
TELL_SECONDS = 60.0
STDERR = 2


def sync(folder: str) -> str | None:
    """Returns what has failed, or None."""
    fault = None
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        if name.endswith(".aof"):
            fault = _sync_file(os.path.join(folder, name)) or fault
    return fault


def _sync_file(path: str) -> str | None:
    try:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    except FileNotFoundError:
        return None  # Redis has just rewritten its files
    except OSError as error:
        return f"{path} is not safe from a power cut: {error}"
    return None


def tell(fault: str) -> None:
    """Never waits: what a full pipe or terminal does not take is lost."""
    if select.select([], [STDERR], [], 0)[1]:
        os.write(STDERR, f"{fault}\n".encode())


def main(folder: str) -> None:
    told_at = -TELL_SECONDS
    while True:
        with suppress(OSError):  # of the folder, or of a terminal that is gone
            fault = sync(folder)
            if fault and time.monotonic() - told_at >= TELL_SECONDS:
                told_at = time.monotonic()
                tell(fault)
        time.sleep(SYNC_SECONDS)


def become(folder: str) -> None:
    """Replaces this process by that program: so it is small, without what was imported here."""
    os.execv(sys.executable, [sys.executable, "-I", "-S", __file__, folder])


if __name__ == "__main__":
    main(sys.argv[1])
