"""What is known of each workspace: a file of JSON, named by its slug. Tasks expire, workspaces do not.

A file is written beside itself and renamed: whoever reads sees the old one or the new one. Who works on a workspace
holds its lock, which its death frees. The web writes only records that nobody has begun with, under the same lock.
Of one that was deleted, the record stays: a tombstone. Fields that this release does not know survive.
"""

import fcntl
import json
import secrets
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from service.errors import SandboxError
from service.tasks import moments
from service.workspaces import durable, names, ports

REQUESTED: Final = "requested"
CREATING: Final = "creating"
READY: Final = "ready"
STOPPED: Final = "stopped"
ASLEEP: Final = "asleep"
FAILED: Final = "failed"
DELETING: Final = "deleting"
DELETE_FAILED: Final = "delete_failed"
DELETED: Final = "deleted"
STATES: Final = (REQUESTED, CREATING, READY, STOPPED, ASLEEP, FAILED, DELETING, DELETE_FAILED, DELETED)
BUILDING: Final = (REQUESTED, CREATING)

LOOK_SECONDS: Final = 0.05
MOMENT_SECONDS: Final = 2.0  # for which somebody may hold a lock and does no more than write
CROWD_SECONDS: Final = 10.0  # for which many may do so, one after the other
FORGOTTEN_SECONDS: Final = 3600.0
ALL: Final = "all"  # the lock of whoever adds a record, or chooses ports
DAY_SECONDS: Final = 86400.0
PORTS: Final = range(20000, 32766, 2)  # below those that the kernel gives away

INTENT: Final = "intent"
DONE: Final = "done"
UNDONE: Final = "undone"


class UnknownWorkspace(SandboxError):
    """There is no workspace of this name."""


class UnreadableRecord(SandboxError):
    """A record is no JSON of ours; the message names the file."""


class WorkspaceBusy(SandboxError):
    """Somebody works on this workspace now; `task` is the UID of the running action, if it is known."""

    def __init__(self, slug: str, task: str | None = None) -> None:
        super().__init__(f"{slug} is being worked on" + (f" by the task {task}" if task else ""))
        self.task = task


class TooManyWorkspaces(SandboxError):
    """There are as many as allowed; `retry_after` is in seconds, and None if waiting alone does not help."""

    def __init__(self, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


@dataclass
class Workspace:
    """The record. `paths` is for people: nothing is opened by what stands there."""

    slug: str
    email: str
    branch: str
    generation: int = 1  # counts the creations under this slug
    state: str = REQUESTED
    step: str | None = None  # that is, or was last, at work
    steps: dict[str, str] = field(default_factory=dict)  # name → intent, done, undone
    address: str | None = None
    base_sha: str | None = None  # where the branch began
    pushed_sha: str | None = None  # what we pushed, or were about to
    was_pushed: bool = False  # it has been at the origin: what is there now goes on from ours
    taken_over: bool = False  # the branch was somebody else's: a deletion leaves it
    python: str | None = None
    venv: int = 0  # the number of the virtualenv in use
    proven_venv: int = 0  # that has served, while another one is in use that has not; else 0
    pythons: dict[str, str] = field(default_factory=dict)  # of each virtualenv, by its number
    port: int | None = None
    paths: dict[str, str] = field(default_factory=dict)
    created_at: str = ""
    changed_at: str = ""
    last_used: str | None = None
    expires_at: str | None = None  # None: never
    error: str | None = None
    task: str | None = None  # the UID of the running action
    unpushed: list[str] = field(default_factory=list)  # work that a deletion would lose, as last seen
    disk_mb: int | None = None
    updates: list[str] = field(default_factory=list)  # the UIDs of those that ended last, the newest first
    test: dict[str, Any] | None = None  # how the project's tests last ended
    logins: list[str] = field(default_factory=list)  # who else may use its files
    rest: dict[str, Any] = field(default_factory=dict, repr=False)  # of other releases

    @property
    def exists(self) -> bool:
        return self.state != DELETED

    def note_use(self, at_seconds: float, expire_days: float) -> None:
        self.last_used = moments.stamp(at_seconds)
        self.expires_at = expiry(at_seconds, expire_days)

    def to_json(self) -> str:
        known = asdict(self)
        rest = known.pop("rest")
        return json.dumps({**rest, **known}, ensure_ascii=False, indent=1)

    @classmethod
    def from_json(cls, text: str | bytes) -> "Workspace":
        members = json.loads(text)
        known = {each.name for each in fields(cls)} - {"rest"}
        rest = {name: value for name, value in members.items() if name not in known}
        return cls(**{name: value for name, value in members.items() if name in known}, rest=rest)


def expiry(used_seconds: float, expire_days: float) -> str | None:
    return moments.stamp(used_seconds + expire_days * DAY_SECONDS) if expire_days else None


def is_forgotten(found: Workspace, now_seconds: float) -> bool:
    """It was asked for so long ago that its task must have been lost."""
    is_old = now_seconds - moments.microseconds(found.changed_at) / 1e6 > FORGOTTEN_SECONDS
    return found.state == REQUESTED and is_old


class Shelf:
    """The folder of the records."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, slug: str) -> Workspace | None:
        if not names.is_slug(slug):
            return None
        path = self._path(slug)
        try:
            return Workspace.from_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, AttributeError) as error:
            raise UnreadableRecord(f"{path} is no record of a workspace: {error}") from error

    def get(self, slug: str) -> Workspace:
        """One that exists."""
        found = self.read(slug)
        if found is None or not found.exists:
            raise UnknownWorkspace(f"there is no workspace {slug!r}")
        return found

    def all(self, *, tombstones: bool = False) -> list[Workspace]:
        """The newest first. What cannot be read is left out: `read` says why."""
        found = []
        for path in self._folder.glob("w-*.json") if self._folder.is_dir() else ():
            with suppress(UnreadableRecord):
                record = self.read(path.stem)
                if record is not None and (tombstones or record.exists):
                    found.append(record)
        return sorted(found, key=lambda record: record.created_at, reverse=True)

    def write(self, record: Workspace) -> None:
        """The caller holds the lock."""
        record.changed_at = moments.stamp(time.time())
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        durable.write(self._path(record.slug), record.to_json())

    def password(self, slug: str) -> str:
        """Of its database: made once, and the same until it is forgotten. The caller holds the lock."""
        path = self._password(slug)
        with suppress(FileNotFoundError):
            return path.read_text(encoding="utf-8")
        made = secrets.token_hex(24)
        durable.write(path, made, 0o600)
        return made

    def forget_password(self, slug: str) -> None:
        self._password(slug).unlink(missing_ok=True)

    def lock(self, slug: str, patience_seconds: float = 0.0) -> AbstractContextManager[None]:
        """Raises WorkspaceBusy if somebody else holds it. Its file stays: a new one would be another lock."""
        return self._alone(_checked(slug), slug, patience_seconds)

    @contextmanager
    def _alone(self, lock: str, slug: str, patience_seconds: float) -> Iterator[None]:
        until = time.monotonic() + patience_seconds
        while True:
            with self._locked(lock) as is_ours:
                if is_ours:
                    yield
                    return
            self._wait(slug, until)

    def request(self, email: str, *, most: int, most_building: int) -> tuple[Workspace, bool]:
        """The record for an email, made if there is none, and whether it was made now."""
        address = names.email(email)
        slug = names.slug(address)
        until = time.monotonic() + CROWD_SECONDS
        while (found := self._of(slug, address)) is None or not found.exists:
            with self._locked(ALL, slug) as is_ours:
                if is_ours:
                    return self._requested(slug, address, most, most_building)
            self._wait(slug, until)
        return found, False

    def _requested(self, slug: str, address: str, most: int, most_building: int) -> tuple[Workspace, bool]:
        found = self._of(slug, address)
        if found is not None and found.exists:
            return found, False
        self._refuse_too_many(most, most_building)
        made = Workspace(
            slug=slug,
            email=address,
            branch=names.branch(address),
            generation=found.generation + 1 if found else 1,
            created_at=moments.stamp(time.time()),
        )
        self.write(made)
        return made, True

    def reserve_port(self, record: Workspace) -> None:
        """Two in a row that no other workspace has and nobody listens at. The caller holds the record's lock."""
        with self._alone(ALL, record.slug, CROWD_SECONDS):
            taken = {other.port for other in self.all() if other.slug != record.slug}
            free = (port for port in PORTS if port not in taken and ports.is_free(port) and ports.is_free(port + 1))
            record.port = next(free, None)
            if record.port is None:
                raise TooManyWorkspaces("every port that workspaces may have is taken")
            self.write(record)

    def _wait(self, slug: str, until: float) -> None:
        """A moment, or raises WorkspaceBusy."""
        if time.monotonic() >= until:
            found = self.read(slug)
            raise WorkspaceBusy(slug, found.task if found else None)
        time.sleep(LOOK_SECONDS)

    def _of(self, slug: str, address: str) -> Workspace | None:
        found = self.read(slug)
        if found is not None and found.email != address:
            raise names.BadEmail(f"{address} and {found.email} share the name {slug}: only one of them can have it")
        return found

    def _refuse_too_many(self, most: int, most_building: int) -> None:
        there = self.all()
        if len(there) >= most:
            raise TooManyWorkspaces(f"there are {len(there)} workspaces, as many as allowed: delete one first")
        now = time.time()
        building = sum(record.state in BUILDING and not is_forgotten(record, now) for record in there)
        if building >= most_building:
            raise TooManyWorkspaces(f"{building} workspaces are being built, as many as allowed at a time", 30)

    @contextmanager
    def _locked(self, *locks: str) -> Iterator[bool]:
        """All of them, or none: are they ours? Nobody waits here, nor while holding some of them: greenlets of a web
        worker would then wait for each other for ever.
        """
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o750)
        with ExitStack() as files:
            try:
                for lock in locks:
                    file = files.enter_context(open(self._folder / f".{lock}.lock", "ab"))
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                files.close()
                yield False
            else:
                yield True

    def _path(self, slug: str) -> Path:
        return self._folder / f"{_checked(slug)}.json"

    def _password(self, slug: str) -> Path:
        return self._folder / f".{_checked(slug)}.password"


def _checked(slug: str) -> str:
    """It becomes the name of a file. What a client sends may be anything."""
    if not names.is_slug(slug):
        raise UnknownWorkspace(f"there is no workspace {slug[:100]!r}")
    return slug
