"""Prints what this host has, as JSON. Changes nothing.

Root runs it, and what lies in the folder is deploy's, who may have put there what he likes: of files only those that
belong to him are read.
"""

import json
import os
import pwd
import re
import shutil
import stat
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

root = Path(os.environ["ROOT"])
MOST_BYTES = 1 << 20


def uid_of(user: str) -> int | None:
    """None where there is no such user: on an index host, and before `setup`."""
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        return None


SERVICE, DEPLOY = uid_of("sandbox"), uid_of("deploy")


def text(path: Path) -> str | None:
    """Follows no link and waits for no pipe."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            is_deploys = stat.S_ISREG(found.st_mode) and DEPLOY in (None, found.st_uid)
            return file.read(MOST_BYTES).decode(errors="replace").strip() if is_deploys else None
    except OSError:
        return None


def releases() -> Iterator[dict[str, Any]]:
    for folder in sorted(root.glob("releases/*")):
        try:
            built = json.loads(text(folder / "RELEASE.json") or "{}")
            wheels, sha, version = sorted(built["wheels"]), built["sha"], built["version"]
            names = [file.split("-") for file in built["wheels"].values()]
        except (ValueError, KeyError, TypeError, AttributeError):
            wheels, sha, version, names = [], "", "", []
        yield {
            "id": folder.name,
            "complete": (folder / ".complete").exists(),
            "verified": (folder / ".verified").exists(),
            "bad": text(folder / ".bad"),
            "wheels": wheels,
            "sha": sha,
            "version": version,
            "sandbox": next((words[1] for words in names if words[0] == "sandbox"), ""),
        }


def living() -> tuple[list[str], str | None]:
    """Which releases processes run from, and which of them serves HTTP: that of the gunicorn that was started last.

    An earlier one may still be finishing its requests. Anybody may give a process these words: it counts only if the
    service's user, deploy or root has started it, and serves only as the service's user.
    """
    found: set[str] = set()
    servers: dict[str, tuple[str, int, str]] = {}
    own = re.compile(re.escape(str(root)) + r"/releases/([^/\s\0]+)/")
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().decode(errors="replace")
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            status = (process / "status").read_text()
        except OSError:
            continue
        uid = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("Uid:"))
        if uid not in (0, DEPLOY, SERVICE):
            continue
        names = own.findall(command)
        found.update(names)
        if names and uid == SERVICE and "service.cli.serve" in command:
            servers[process.name] = (fields[1], int(fields[19]), names[0])
    started = [(began, name) for parent, began, name in servers.values() if parent not in servers]
    return sorted(found), max(started)[1] if started else None


def free(path: Path) -> int:
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


alive, serving = living()
current = root / "current"
frozen = root / "shared" / "frozen"
json.dump(
    {
        "python": list(sys.version_info[:2]),
        "platform": sysconfig.get_platform(),
        "libc": os.confstr("CS_GNU_LIBC_VERSION") or "",
        "free": free(root),
        "set_up": (root / "shared").is_dir() and Path("/etc/default/sandbox").exists(),
        "frozen": text(frozen) or ("by a file that is not deploy's" if os.path.lexists(frozen) else None),
        "releases": list(releases()),
        "current": current.readlink().name if current.is_symlink() else None,
        "serving": serving,
        "living": alive,
        "wheels": sorted(path.name for path in root.glob("shared/wheels/*") if len(path.name) == 64),
    },
    sys.stdout,
)
