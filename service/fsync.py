"""Calls fsync on the embedded Redis's append-only files once a second. A program of its own, which imports next to
nothing: python fsync.py FOLDER
"""

import os
import sys
import time
from contextlib import suppress

SYNC_SECONDS = 1.0


def sync(folder: str) -> None:
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        if name.endswith(".aof"):
            _sync_file(os.path.join(folder, name))


def _sync_file(path: str) -> None:
    try:
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    except FileNotFoundError:
        return  # rewritten meanwhile
    except OSError as error:
        print(f"{path} is not safe from a power cut: {error}", file=sys.stderr, flush=True)


def main(folder: str) -> None:
    while True:
        with suppress(OSError):  # also of a terminal that is gone
            sync(folder)
        time.sleep(SYNC_SECONDS)


def become(folder: str) -> None:
    """This process becomes that program, and lets go of all that it has imported."""
    os.execv(sys.executable, [sys.executable, "-I", "-S", __file__, folder])


if __name__ == "__main__":
    main(sys.argv[1])
