"""What root has decided: steward.toml, read into one frozen object. docs/steward.md says what each key is."""

import functools
import pwd
import sys
import tomllib
from dataclasses import dataclass, fields
from pathlib import Path

from service.workspaces.places import Places


@dataclass(frozen=True, kw_only=True)
class Config:
    """What root has decided in steward.toml. `docs/steward.md` says what each is."""

    service: str = "sandbox"
    web: str = "www-data"
    base: str = "/var/lib/sandbox-workspaces"
    state: str = "/var/lib/sandbox-steward"
    socket: str = "/run/sandbox-steward/socket"
    first_uid: int = 70_000
    last_uid: int = 99_999
    pythons: tuple[str, ...] = ("python3",)
    origin: str = ""
    index: str = ""
    memory_mb: int = 1024
    disk_mb: int = 2048
    inodes: int = 500_000
    processes: int = 128
    files: int = 4096

    @classmethod
    def read(cls, path: Path) -> "Config":
        found = path.stat()
        if found.st_uid != 0 or found.st_mode & 0o022:
            sys.exit(f"{path} must belong to root, and be written by nobody else")
        given = tomllib.loads(path.read_text())
        known = {each.name: each.default for each in fields(cls)}
        for name, value in given.items():
            if name not in known:
                sys.exit(f"{path}: there is no {name}; there are {', '.join(known)}")
            default = known[name]
            if isinstance(default, tuple):
                value = given[name] = tuple(value) if isinstance(value, list) else value
            if type(value) is not type(default) or (type(value) is int and value < 1):
                sys.exit(f"{path}: {name} is {value!r}; it is like {default!r}")
        config = cls(**given)
        config.check(path)
        return config

    def check(self, path: Path) -> None:
        for name in ("base", "state", "socket"):
            if not getattr(self, name).startswith("/"):
                sys.exit(f"{path}: {name} is {getattr(self, name)!r}; it is an absolute path")
        if not 65_536 <= self.first_uid <= self.last_uid:
            sys.exit(f"{path}: first_uid is at least 65536, and at most last_uid")
        if "@" in self.index:
            sys.exit(
                f"{path}: index has a name or a password, which strangers' code would see; it is to be free of them"
            )

    @functools.cached_property
    def service_uid(self) -> int:
        return pwd.getpwnam(self.service).pw_uid

    @property
    def places(self) -> Places:
        return Places.under(Path(self.base))

    @property
    def git_config(self) -> Path:
        return Path(self.socket).parent / "gitconfig"

    def uids(self) -> range:
        return range(self.first_uid, self.last_uid + 1)
