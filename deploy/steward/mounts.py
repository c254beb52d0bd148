"""How the folder of the workspaces is mounted: no file in it gives its owner's rights to whoever runs it."""

import os
from typing import Final

from steward.config import Config
from steward.programs import call

IGNORED: Final = "ignored"


def forbid_setuid(config: Config) -> str:
    """A member would leave the cage by a setuid file of the workspace's. The mount outlives us; twice is once."""
    homes = str(config.places.homes)
    if look(config) != IGNORED:
        for options in (("--bind", homes, homes), ("-o", "remount,bind,nosuid,nodev", homes)):
            done = call("mount", *options)
            if done.returncode != 0:
                return f"obeyed: mount: {done.stderr.strip()}"
    return IGNORED


def look(config: Config) -> str:
    """What becomes of such a file, without a change."""
    homes, wanted = config.places.homes, os.ST_NOSUID | os.ST_NODEV
    is_so = homes.is_dir() and os.statvfs(homes).f_flag & wanted == wanted
    return IGNORED if is_so else "obeyed until the steward is started"
