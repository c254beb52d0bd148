"""Copies the embedded Redis's data while it works.

The manifest names the files that belong together. All but the last are complete, and the last one only grows. A
rewrite puts others in their place, and deletes them. So the copy opens all of them; if one is already gone, it reads
the manifest again. What is open stays. The last file is cut where it ends at that moment, perhaps within a command;
Redis drops such a rest at its start.
"""

import io
import os
import re
import tarfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Final

from service.embedded.valkey import COMMANDS, FOLDER, MANIFEST, WHAT_TO_DO
from service.errors import SandboxError

LINE: Final = re.compile(r"file \S+ seq \d+ type \w.*\n")
HISTORY: Final = "type h"  # a file that is about to be deleted
LOOKS: Final = 100
PAUSE_SECONDS: Final = 0.05

Part = tuple[tarfile.TarInfo, IO[bytes]]


def save(folder: Path, file: Path) -> None:
    """Puts the data of the server's folder into a tar. If that fails, it raises, and leaves the file as it was."""
    file = file.resolve()
    if file.exists() and not file.is_file():
        raise SandboxError(f"{file} is there, but is not a file: a backup cannot replace it")
    draft = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as written:
            with tarfile.open(fileobj=written, mode="w", dereference=True) as tar, ExitStack() as opened:
                for info, content in _parts(folder, tar, opened):
                    tar.addfile(info, content)
            written.flush()
            os.fsync(written.fileno())
        draft.replace(file)
    except OSError as error:
        raise SandboxError(f"no backup was made: {error}") from error
    finally:
        with suppress(OSError):
            draft.unlink()


def _parts(folder: Path, tar: tarfile.TarFile, opened: ExitStack) -> Iterator[Part]:
    """Folders too: if root unpacks them, they belong to their owner again."""
    manifest = folder / FOLDER / MANIFEST
    kept, files = _whole(manifest, tar, opened)
    for path in (folder, manifest.parent):
        yield tar.gettarinfo(path, _name(path, folder)), io.BytesIO()
    yield from files
    info = tar.gettarinfo(manifest, _name(manifest, folder))
    info.size = len(kept)
    yield info, io.BytesIO(kept)


def _whole(manifest: Path, tar: tarfile.TarFile, opened: ExitStack) -> tuple[bytes, list[Part]]:
    """The text for the copy's manifest, and the files that it names, with their sizes."""
    has_commands = any(manifest.parent.glob("*.incr.aof"))
    if not manifest.exists() and not has_commands:
        raise SandboxError(f"there are no data in {manifest.parent}: no embedded Redis has worked there yet")
    for _ in range(LOOKS):
        text = manifest.read_text(errors="replace") if manifest.exists() else ""
        lines = [line for line in text.splitlines(keepends=True) if HISTORY not in line]
        if not all(map(LINE.fullmatch, lines)) or (has_commands and COMMANDS not in text):
            raise SandboxError(f"{manifest} is missing or damaged. {WHAT_TO_DO}")
        paths = [manifest.with_name(line.split()[1]) for line in lines]
        try:
            files = [opened.enter_context(path.open("rb")) for path in paths]
        except FileNotFoundError:
            time.sleep(PAUSE_SECONDS)
            continue
        names = [_name(path, manifest.parents[1]) for path in paths]
        infos = [tar.gettarinfo(arcname=name, fileobj=file) for name, file in zip(names, files, strict=True)]
        return "".join(lines).encode(), list(zip(infos, files, strict=True))
    raise SandboxError(f"{manifest} names files that are not there")


def _name(path: Path, folder: Path) -> str:
    """The path in the state folder."""
    return str("redis" / path.relative_to(folder))
