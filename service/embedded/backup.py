"""A copy of the embedded Redis's data, taken while it works.

The manifest names the files that belong together; all but the last are complete, and that one only grows. A rewrite
puts others in their place and deletes them. So they are opened; if one is gone by then, the manifest is read again.
What is open stays; the last file is cut where it ends at that moment, perhaps within a command, which a start drops.
"""

import io
import os
import tarfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import IO, Final

from service.errors import SandboxError

FOLDER: Final = "appendonlydir"
MANIFEST: Final = "appendonly.aof.manifest"
HISTORY: Final = "type h"  # a file that is about to be deleted
LOOKS: Final = 100
PAUSE_SECONDS: Final = 0.05

Part = tuple[tarfile.TarInfo, IO[bytes]]


def save(folder: Path, file: Path) -> None:
    """Puts the data in the server's folder into a tar: all of it, or an error and what was there before."""
    file = file.resolve()
    if file.exists() and not file.is_file():
        raise SandboxError(f"{file} is there, and is no file that a backup could take the place of")
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
    """Folders too: who unpacks them as root gives them back to their owner."""
    manifest = folder / FOLDER / MANIFEST
    kept, files = _whole(manifest, tar, opened)
    for path in (folder, manifest.parent):
        yield tar.gettarinfo(path, _name(path, folder)), io.BytesIO()
    yield from files
    info = tar.gettarinfo(manifest, _name(manifest, folder))
    info.size = len(kept)
    yield info, io.BytesIO(kept)


def _whole(manifest: Path, tar: tarfile.TarFile, opened: ExitStack) -> tuple[bytes, list[Part]]:
    """What the manifest is to say, and the files that it names, with their sizes."""
    if not manifest.exists():
        raise SandboxError(f"there are no data in {manifest.parent}: no embedded Redis has worked there yet")
    for _ in range(LOOKS):
        lines = [line for line in manifest.read_text().splitlines(keepends=True) if HISTORY not in line]
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
    """As it lies in the state folder."""
    return str("redis" / path.relative_to(folder))
