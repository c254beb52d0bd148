"""The table slug → uid, in a file. A uid is written down before it is used."""

import contextlib
import fcntl
import grp
import json
import pwd
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from steward.config import Config
from steward.errors import Refused
from steward.root_files import write_file


class Uids:
    """slug → uid, in a file. `next` only counts up: whoever comes later has never the files of who went."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._file = Path(config.state, "uids.json")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Also the lock for all that changes users and groups."""
        with open(self._file.with_suffix(".lock"), "ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def all(self) -> dict[str, int]:
        found: dict[str, int] = self._read()["uids"]
        return found

    def of(self, slug: str) -> int:
        uid = self.all().get(slug)
        if uid is None:
            raise Refused(f"there is no user {slug}: make_user comes first")
        return uid

    def last(self, slug: str) -> int | None:
        """Also of one that is gone."""
        table = self._read()
        found: int | None = table["uids"].get(slug, table["gone"].get(slug))
        return found

    def reserve(self, slug: str) -> int:
        table = self._read()
        if slug not in table["uids"]:
            while _is_taken(table["next"]):
                table["next"] += 1
            if table["next"] not in self._config.uids():
                raise Refused("all uids of steward.toml were used: give it another range")
            table["uids"][slug] = table["next"]
            table["next"] += 1
            self._write(table)
        return int(table["uids"][slug])

    def release(self, slug: str) -> None:
        table = self._read()
        if (uid := table["uids"].pop(slug, None)) is not None:
            table["gone"][slug] = uid
            self._write(table)

    def _read(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self._file.read_text())
        except FileNotFoundError:
            return {"next": self._config.first_uid, "uids": {}, "gone": {}}
        return found

    def _write(self, table: dict[str, Any]) -> None:
        write_file(self._file, json.dumps(table, indent=1), 0, 0o600)


def _is_taken(number: int) -> bool:
    """Somebody else's, by name."""
    for look in (pwd.getpwuid, grp.getgrgid):
        with contextlib.suppress(KeyError):
            look(number)
            return True
    return False
