"""Prints what this host has, as JSON. Changes nothing."""

import json
import os
import re
import shutil
import sys
import sysconfig
from pathlib import Path

root = Path(os.environ["ROOT"])


def text(path):
    try:
        return path.read_text().strip()
    except OSError:
        return None


def releases():
    for folder in sorted(root.glob("releases/*")):
        try:
            wheels = sorted(json.loads((folder / "RELEASE.json").read_text())["wheels"])
        except (OSError, ValueError, KeyError):
            wheels = []
        yield {
            "id": folder.name,
            "complete": (folder / ".complete").exists(),
            "bad": text(folder / ".bad"),
            "wheels": wheels,
        }


def living():
    """Which releases processes run from, and which of them serves HTTP."""
    found, serving = set(), None
    own = re.compile(re.escape(str(root)) + r"/releases/([^/\s\0]+)/")
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        for release in own.findall(command):
            found.add(release)
            if "service.cli.serve" in command:
                serving = max(serving or release, release)
    return sorted(found), serving


def free(path):
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


alive, serving = living()
current = root / "current"
json.dump(
    {
        "python": list(sys.version_info[:2]),
        "platform": sysconfig.get_platform(),
        "libc": os.confstr("CS_GNU_LIBC_VERSION") or "",
        "free": free(root),
        "set_up": (root / "shared").is_dir() and Path("/etc/default/sandbox").exists(),
        "frozen": text(root / "shared" / "frozen"),
        "releases": list(releases()),
        "current": os.readlink(current).rpartition("/")[2] if current.is_symlink() else None,
        "serving": serving,
        "living": alive,
        "wheels": sorted(path.name for path in root.glob("shared/wheels/*") if len(path.name) == 64),
    },
    sys.stdout,
)
