"""What circusd hands to the program that it becomes at a restart, and how it becomes it: by exec.

The process stays the same. So the init system notices nothing, the children stay children, and open descriptors stay
open: the lock of the state folder, and the listening sockets. Everything else is told in a folder of this restart,
below the state folder, which only its owner may enter:

- `program`: what circusd is to become, with its environment; `sandbox restart` writes it.
- `handover`: what circusd leaves to that program, and the program that it was, for the way back.
- `outcome`: how it went, for `sandbox restart`; empty if all is well.

Signals to stop are held back from before the exec until the new program has handlers for them.
"""

import json
import os
import shutil
import signal
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from service.errors import RestartFailed, RestartRefused

VARIABLE: Final = "SANDBOX_RESTART"
FOLDER: Final = "restart"  # among the sockets
OWNER_ONLY: Final = 0o700
STOPPING: Final = "the service is stopping"  # so an outcome begins if nothing goes on
STAYS: Final = "circusd has the new settings all the same"  # in one, if only the processes are what they were
HELD: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP)


class WrittenDown:
    """Another release may have written it: what is unknown is passed over, and a field that is new needs a default."""

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> Self:
        """Raises TypeError if a field is missing."""
        known: Any = cls
        return cls(**{field.name: found[field.name] for field in fields(known) if field.name in found})


AnyRecord = TypeVar("AnyRecord", bound=WrittenDown)


@dataclass(frozen=True, kw_only=True)
class Program(WrittenDown):
    words: list[str]  # the interpreter and the module or script
    command: list[str]
    environment: dict[str, str]
    folder: str

    @classmethod
    def running(cls) -> "Program":
        """What this process is."""
        command = sys.argv[1:]
        words = sys.orig_argv[1 : len(sys.orig_argv) - len(command)]
        return cls(words=[sys.executable, *words], command=command, environment=dict(os.environ), folder=os.getcwd())

    def with_command(self, command: list[str]) -> "Program":
        return replace(self, command=command)


@dataclass(frozen=True, kw_only=True)
class Handover(WrittenDown):
    pid: int
    lock: int
    sockets: list[int]
    serving: dict[str, list[int]]  # processes of each watcher
    leaving: dict[str, list[int]]  # those that were told to stop
    releases: dict[str, str] = field(default_factory=dict)  # what those processes are of: the real path of each
    before: dict[str, Any] = field(default_factory=dict)  # the program that circusd was; empty on the way back
    refused: str = ""  # why it is on the way back


received: Handover | None = None
_folder: Path | None = None


def write(folder: Path, record: Program | Handover) -> None:
    """In ASCII: an environment may hold bytes that are no text. Leaves nothing if the disk is full."""
    file = folder / type(record).__name__.lower()
    try:
        file.write_text(json.dumps(asdict(record)))
    except OSError as error:
        file.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(file)) from error


def read(folder: Path, kind: type[AnyRecord]) -> AnyRecord:
    """And removes it: it holds secrets. Raises OSError, ValueError or TypeError."""
    file = folder / kind.__name__.lower()
    found = json.loads(file.read_text())
    file.unlink()
    return kind.from_dict(found)


@contextmanager
def wish(sockets: Path, program: Program) -> Iterator[Path]:
    """The folder of a restart to this program, for circusd to take. An exception inside, also Ctrl-C, withdraws it."""
    folder = sockets / FOLDER / uuid.uuid4().hex
    try:
        _make(folder, program)
        yield folder
    except BaseException:
        _withdraw(folder)
        raise


def _make(folder: Path, program: Program) -> None:
    try:
        folder.parent.mkdir(mode=OWNER_ONLY, exist_ok=True)
        folder.mkdir(mode=OWNER_ONLY)
        write(folder, program)
    except OSError as error:
        raise RestartRefused(
            f"what circusd is to become cannot be written down: {error}. Nothing has changed."
        ) from error


def _withdraw(folder: Path) -> None:
    """Nothing but the program is removed: circusd may be at it."""
    with suppress(OSError):
        (folder / "program").unlink(missing_ok=True)
        folder.rmdir()


def take() -> Handover | None:
    """In the new program: what was handed to it, if it was started by a restart."""
    global received, _folder
    named = os.environ.pop(VARIABLE, "")
    if not named:
        return None
    try:
        found = read(Path(named), Handover)
    except (OSError, ValueError, TypeError) as error:
        raise RestartFailed(
            f"{VARIABLE} is {named!r}; what the former circusd has left there cannot be read ({error}). "
            f"Its processes go on serving. Start sandbox again, without that variable: the start takes over."
        ) from error
    if found.pid == os.getpid():
        received, _folder = found, Path(named)
    return received


def become(program: Program, folder: Path, handover: Handover, unless: Callable[[], bool]) -> None:
    """Raises OSError if that is not possible. Returns only if a signal has come in the last moment."""
    write(folder, handover)
    words = [*program.words, *program.command]
    try:
        here = os.getcwd()
    except FileNotFoundError:  # it has been removed, perhaps with an old release
        here = program.folder
    signal.pthread_sigmask(signal.SIG_BLOCK, HELD)
    try:
        os.chdir(program.folder)
        for descriptor in (handover.lock, *handover.sockets):
            os.set_inheritable(descriptor, True)
        sys.stdout.flush()
        sys.stderr.flush()
        if not unless():
            os.execve(words[0], words, {**program.environment, VARIABLE: str(folder)})
    finally:
        release_signals()
        os.set_inheritable(handover.lock, False)
        with suppress(OSError):
            os.chdir(here)


def release_signals() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, HELD)


def tell(outcome: str, folder: Path | None = None) -> None:
    """For `sandbox restart`, if it still waits. Where the disk is full, the folder goes, so that it waits no longer."""
    folder = folder or _folder
    if folder is not None and folder.is_dir():
        try:
            (folder / "outcome.new").write_text(outcome)
            (folder / "outcome.new").rename(folder / "outcome")
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)


def folder() -> Path:
    assert _folder is not None
    return _folder


def outcome(folder: Path) -> str | None:
    try:
        return (folder / "outcome").read_text()
    except FileNotFoundError as error:
        if folder.is_dir():
            return None
        raise RestartFailed(
            f"circusd could not write down how it went: {folder} has gone. log/circus.log says it; "
            f"`sandbox status` says what runs."
        ) from error
