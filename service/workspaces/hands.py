"""The seam between what decides and what touches: everything that is done to a workspace's own files, processes and
user goes through these verbs, and through no other way.

A verb gets a slug and checked scalars, never a path, a command line or a uid. Two programs have such hands: the
service itself, for one user and without isolation (plain.py), and the steward, which is root (steward_client.py).
Each verb may be called again after a crash at any moment: what is done already is no error.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from service.errors import SandboxError

CLONE: Final = "clone"  # code/ from the mirror
CHECKOUT: Final = "checkout"  # branch, sha: code/ is at this branch
VENV: Final = "venv"  # number, python: venvs/<number>, empty
REQUIREMENTS: Final = "requirements"  # number: what the project requires, and pip check
FREEZE: Final = "freeze"  # number: the virtualenv is whole; its freeze.txt says so
SWITCH: Final = "switch"  # number: the link venv leads to it
PRUNE: Final = "prune"  # number: the other virtualenvs go
DATABASE: Final = "database"  # kind (copy, empty): data/database.sqlite3, if there is none
MIGRATE: Final = "migrate"
COLLECT_STATIC: Final = "collectstatic"
TEST: Final = "test"
GIT_STATUS: Final = "git-status"  # prints the work that a deletion would lose, a line for each thing
GIT_FORWARD: Final = "git-forward"  # branch: fast-forwards code/ to the mirror's branch, or fails and touches nothing
STEPS: Final = (
    CLONE, CHECKOUT, VENV, REQUIREMENTS, FREEZE, SWITCH, PRUNE, DATABASE, MIGRATE, COLLECT_STATIC, TEST,
    GIT_STATUS, GIT_FORWARD,
)  # fmt: skip


STOPPED: Final = "stopped"  # of WebService.state


class HandsFailed(SandboxError):
    """A verb could not do what it is for; the message says why."""


@dataclass(frozen=True)
class Facts:
    """What is there of a workspace, whatever its record says."""

    user: bool = False
    folders: bool = False
    code: bool = False  # there is something of this name, whatever it is
    sha: str = ""  # that code/ is at; empty without a clone
    branch: str = ""
    requirements: str = ""  # the hash of what the project requires; empty if it requires nothing
    venvs: Mapping[int, str] = field(default_factory=dict)  # those that are whole, with the hash they were made for
    venv: int = 0  # that the link leads to
    database: bool = False
    env: bool = False
    media: bool = False
    django: bool = False  # there is a manage.py


@dataclass(frozen=True)
class WebService:
    """The web process of a workspace. `pid` is 0 unless it runs."""

    state: str  # active, asleep (the first connection starts it), stopped (nothing does)
    pid: int = 0


@dataclass(frozen=True)
class Ended:
    status: int
    output: str  # its end


class Speaker(Protocol):
    """Whom a running step talks to: a task's Context is one."""

    def log(self, text: str) -> None: ...

    def run(self, command: Sequence[Any], **options: Any) -> Any: ...


class Hands(Protocol):
    def homes(self) -> list[str]:
        """The names of all that lies in the folder of the workspaces."""

    def make_user(self, slug: str) -> None: ...

    def make_folders(self, slug: str) -> None: ...

    def remove_folders(self, slug: str) -> None:
        """Follows no link. The media link is gone before."""

    def remove_user(self, slug: str) -> None: ...

    def facts(self, slug: str) -> Facts: ...

    def run(self, speaker: Speaker, slug: str, step: str, *arguments: str | int, seconds: float) -> Ended:
        """One of STEPS, as the workspace's user. What it prints becomes lines of the task's log. It ends with its
        caller, and after so many seconds, which is HandsFailed.
        """

    def end_steps(self, slug: str) -> None:
        """What a step of a caller that was killed still runs is ended."""

    def disk_mb(self, slug: str) -> int: ...

    def last_used(self, slug: str) -> float | None:
        """When somebody last asked its web process for something, in seconds since 1970."""

    def web_log(self, slug: str) -> str:
        """The last lines of its web process."""

    def write_env(self, slug: str, values: Mapping[str, str]) -> None:
        """The project's example, with these values in place of its own, paths that are known here (DATABASE_URL,
        STATIC_ROOT, MEDIA_ROOT), and a SECRET_KEY that stays what it is.
        """

    def link_media(self, slug: str) -> None: ...

    def unlink_media(self, slug: str) -> None:
        """The link only, never what it leads to."""

    def grant(self, slug: str, login: str) -> None: ...

    def revoke(self, slug: str, login: str) -> None: ...

    def wake(self) -> bool:
        """What supervises the web processes runs, if there are any. Was it started now?"""

    def start(self, slug: str, port: int = 0) -> None:
        """`port`: what the project's own server may listen at; see docs/workspaces.md."""

    def stop(self, slug: str) -> None:
        """No process and no socket, and nothing that starts one."""

    def sleep(self, slug: str, port: int = 0) -> None:
        """No process, until somebody connects."""

    def restart(self, slug: str) -> None: ...

    def status(self, slug: str) -> WebService: ...

    def processes(self, slug: str) -> list[int]: ...

    def kill(self, slug: str) -> None:
        """All of its processes, until there are none."""

    def left(self, slug: str) -> list[str]:
        """What is left of it, in words; empty if nothing is."""
