"""A small file that is there as it was, or as it is now: whole, whatever dies in between."""

import os
from pathlib import Path


def write(path: Path, text: str, mode: int = 0o666) -> None:
    """Beside it, to the disk, and then into its place. The caller holds the lock of the file."""
    beside = path.with_name(f".{path.stem}.new")
    with open(beside, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.rename(beside, path)
    _sync(path.parent)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
