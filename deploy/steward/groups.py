"""Control groups: what a workspace has of memory and processes, all of its own together."""

import contextlib
import errno
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from steward.config import Config

REMOVE_SECONDS: Final = 5


class Groups:
    """A control group for each workspace, where the machine has them (version 2, or 1), else limits by process."""

    def __init__(self, config: Config, folders: Mapping[str, Path]) -> None:
        self._config = config
        self.folders = folders  # controller: where its groups of ours lie

    @classmethod
    def find(cls, config: Config) -> "Groups":
        root = Path("/sys/fs/cgroup")
        own = dict(line.split(":")[1:] for line in Path("/proc/self/cgroup").read_text().splitlines())
        folders: dict[str, Path] = {}
        with contextlib.suppress(OSError):
            if (root / "cgroup.controllers").exists():
                folder = _delegated(root / own[""].strip("/"))
                folders = dict.fromkeys(("memory", "pids"), folder)
            else:
                for name in ("memory", "pids"):
                    parents = (root / name / own.get(name, "").strip("/"), root / name)
                    parent = next(each for each in parents if each.is_dir())
                    folders[name] = parent / "sandbox-workspaces"
                    folders[name].mkdir(exist_ok=True)
        return cls(config, folders)

    @classmethod
    def look(cls, config: Config) -> "Groups":
        """Where the machine has them, without making any: only the daemon knows which are its own."""
        root = Path("/sys/fs/cgroup")
        controllers = root / "cgroup.controllers"
        there = controllers.read_text().split() if controllers.exists() else [each.name for each in root.glob("*")]
        return cls(config, {name: root for name in ("memory", "pids") if name in there})

    def make(self, slug: str) -> None:
        """Its limits are set each time: root may have changed them."""
        for folder in set(self.folders.values()):
            group = folder / slug
            group.mkdir(exist_ok=True)
            for name, value in self._limits(group):
                if (group / name).exists():
                    (group / name).write_text(str(value))

    def _limits(self, group: Path) -> list[tuple[str, int]]:
        """Swap counts as memory. In version 1 memory with swap may at no moment be less than memory alone."""
        memory = self._config.memory_mb << 20
        alone = group / "memory.limit_in_bytes"
        version_1 = [(alone.name, memory), ("memory.memsw.limit_in_bytes", memory)]
        if alone.exists() and int(alone.read_text()) < memory:
            version_1.reverse()
        return [("memory.max", memory), ("memory.swap.max", 0), *version_1, ("pids.max", self._config.processes)]

    def enter(self, slug: str) -> None:
        for folder in set(self.folders.values()):
            (folder / slug / "cgroup.procs").write_text(str(os.getpid()))

    def remove(self, slug: str) -> None:
        """After its processes, the last of which the kernel may be taking away still."""
        until = time.monotonic() + REMOVE_SECONDS
        for folder in set(self.folders.values()):
            while (folder / slug).exists():
                try:
                    (folder / slug).rmdir()
                except OSError as error:
                    if error.errno != errno.EBUSY or time.monotonic() > until:
                        raise
                    time.sleep(0.02)


def _delegated(own: Path) -> Path:
    """Version 2: a group has processes or groups, so the steward moves into one of its own first."""
    leaf = own / "steward"
    if own != Path("/sys/fs/cgroup"):
        leaf.mkdir(exist_ok=True)
        (leaf / "cgroup.procs").write_text(str(os.getpid()))
    (own / "cgroup.subtree_control").write_text("+memory +pids")
    return own
