"""Marks: what happened at a moment, and charts show: a start, a reload, a refused reload.

circusd may not wait for Redis. So it leaves a file, and a runner of this host takes it to the history.
"""

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from service.tasks import moments

FOLDER: Final = "marks"
MOST: Final = 100  # where no runner takes them
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class Mark(NamedTuple):
    path: Path
    at: int  # in microseconds
    facts: dict[str, Any]


def leave(run: Path, what: str, watcher: str, release: str) -> None:
    """Never raises. `run` is the folder of what matters only while the service runs."""
    at = time.time_ns() // 1000
    facts = {"at": moments.stamp_exactly(at), "what": what, "watcher": watcher, "release": release}
    folder = run / FOLDER
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        for old in sorted(folder.glob("*.json"))[: -MOST + 1]:
            old.unlink(missing_ok=True)
        unfinished = folder / f".{at}.{os.getpid()}"
        unfinished.write_bytes(_encode(facts))
        unfinished.rename(folder / f"{at}.{os.getpid()}.json")


def left(run: Path) -> Iterator[Mark]:
    """What has been left, from the oldest on; what cannot be read is removed."""
    for path in sorted((run / FOLDER).glob("*.json")):
        try:
            yield Mark(path, int(path.name.partition(".")[0]), _decode(path.read_bytes()))
        except FileNotFoundError:
            continue  # another runner was quicker
        except (OSError, ValueError, msgspec.MsgspecError):
            with suppress(OSError):
                path.unlink()
