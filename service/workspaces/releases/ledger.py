"""Which releases the first stage has proved, and which of them a person wants on the second one: a file of JSON.

The runner writes what was proved, the web who wants what. A change is made under a lock and by a rename: whoever reads
sees the old file or the new one. Tasks expire; this does not. Only the last wish counts, and it names its task: so a
task that somebody has made by hand brings nothing to production; and its own one is never retried (transitions.py).
"""

import fcntl
import json
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from service.errors import SandboxError
from service.tasks import moments
from service.workspaces import durable

ID: Final = re.compile(r"[0-9]{8}T[0-9]{6}-[0-9a-f]{7}")
KEPT: Final = 20
LOOK_SECONDS: Final = 0.05
MOMENT_SECONDS: Final = 60.0
KNOWN: Final = ("proved", "wish", "current", "begun")
STAMP: Final = "%Y%m%dT%H%M%S"  # as at the start of a release's name

ASKED: Final = "asked"
RUNNING: Final = "running"
DONE: Final = "done"
FAILED: Final = "failed"


class LedgerBusy(SandboxError):
    """Somebody else writes just now, or what is there cannot be read."""


@dataclass(frozen=True, kw_only=True)
class Proved:
    release: str
    sha: str
    at: str
    task: str


@dataclass(frozen=True, kw_only=True)
class Wish:
    """Somebody wants this release on the second stage."""

    release: str
    task: str
    by: str
    at: str
    state: str = ASKED


@dataclass(frozen=True, kw_only=True)
class Begun:
    """The task that has begun a deploy last, when it did so first, and how often since."""

    task: str
    at: str
    tries: int = 1


@dataclass(frozen=True)
class Page:
    """What the ledger says: the newest first."""

    proved: tuple[Proved, ...] = ()
    wish: Wish | None = None
    current: str | None = None  # the release that was brought to the second stage last, and works there
    begun: Begun | None = None
    rest: dict[str, Any] = field(default_factory=dict, repr=False)  # of other releases of the service

    def of(self, release: str) -> Proved | None:
        return next((one for one in self.proved if one.release == release), None)


class Ledger:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "ledger.json"

    def read(self) -> Page:
        try:
            return _page(json.loads(self._path.read_bytes()))
        except FileNotFoundError:
            return Page()
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise LedgerBusy(f"{self._path} cannot be read: {error}") from error

    @contextmanager
    def locked(self, patience_seconds: float = MOMENT_SECONDS) -> Iterator[None]:
        """Alone with the ledger. The web has no patience: its greenlets would wait for each other for ever."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        with open(self._folder / ".ledger.lock", "ab") as file:
            until = time.monotonic() + patience_seconds
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() >= until:
                        raise LedgerBusy("somebody else asks for a release just now; ask again") from None
                    time.sleep(LOOK_SECONDS)
            yield

    def begin(self, task: str) -> Begun:
        """A task is about to deploy, perhaps once more: what ends it in between leaves this count."""
        with self.locked():
            page = self.read()
            if page.begun is not None and page.begun.task == task:
                begun = replace(page.begun, tries=page.begun.tries + 1)
            else:
                begun = Begun(task=task, at=time.strftime(STAMP, time.gmtime()))
            self._write(replace(page, begun=begun))
            return begun

    def prove(self, release: str, sha: str, task: str) -> None:
        with self.locked():
            page = self.read()
            others = tuple(one for one in page.proved if one.release != release)
            proved = Proved(release=release, sha=sha, at=moments.stamp(time.time()), task=task)
            self._write(replace(page, proved=(proved, *others)[:KEPT]))

    def wish(self, release: str, task: str, by: str) -> None:
        """The caller holds the lock."""
        wish = Wish(release=release, task=task, by=by, at=moments.stamp(time.time()))
        self._write(replace(self.read(), wish=wish))

    def follow(self, task: str, state: str) -> Wish | None:
        """The wish that this task is to fulfil, with its new state; None if it is to fulfil none, or no more."""
        with self.locked():
            page = self.read()
            if page.wish is None or page.wish.task != task or page.wish.state not in (ASKED, RUNNING):
                return None
            wish = replace(page.wish, state=state)
            self._write(replace(page, wish=wish, current=wish.release if state == DONE else page.current))
            return wish

    def _write(self, page: Page) -> None:
        members = asdict(page)
        durable.write(self._path, json.dumps({**members.pop("rest"), **members}, indent=1))


def _page(members: dict[str, Any]) -> Page:
    rest = {name: value for name, value in members.items() if name not in KNOWN}
    proved = tuple(_known(Proved, one) for one in members.get("proved", ()))
    wish, begun = members.get("wish"), members.get("begun")
    return Page(
        proved,
        _known(Wish, wish) if wish else None,
        members.get("current"),
        _known(Begun, begun) if begun else None,
        rest,
    )


def _known(kind: Any, members: dict[str, Any]) -> Any:
    return kind(**{name: members[name] for name in kind.__dataclass_fields__ if name in members})
