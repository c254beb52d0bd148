"""The state folder: its parts, the lock of whoever runs on it, and the lock of its Redis.

A lock is a file that its owner keeps open and locked, so it is free exactly when the owner is gone.
"""

import errno
import fcntl
import grp
import os
import time
from pathlib import Path
from typing import Final

from service.errors import AlreadyRunning, SettingsError
from service.settings import Settings

OWNER_ONLY: Final = 0o700
OWNER_AND_MEMBERS_WHO_ENTER: Final = 0o710
OWNER_AND_MEMBERS_WHO_READ: Final = 0o640
OTHERS_READ: Final = 0o755  # whatever the umask would allow
LOOK_SECONDS: Final = 0.05
GONE_SECONDS: Final = 1.0

_held: dict[Path, int] = {}


def prepare(settings: Settings) -> None:
    """Makes the folders, and takes the state folder for this process."""
    check(settings)
    try:
        for folder in (settings.sockets, redis_folder(settings), settings.home / "runners"):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(OWNER_ONLY)
        holder = lock(settings.sockets / "lock", wait_seconds=LOOK_SECONDS)  # somebody may look at it just now
        _let_members_look(settings)
    except OSError as error:
        raise _unusable("SANDBOX_HOME", settings.home, error) from error
    if holder is not None:
        raise AlreadyRunning(
            f"another sandbox (process {holder}) runs on {settings.home}. "
            f"Stop it, or set SANDBOX_HOME and SANDBOX_PORT for this one."
        )


def check(settings: Settings) -> None:
    """What may be wrong although the state folder itself is in use. Makes the folder of the logs."""
    if settings.control_group:
        control_group(settings)
    _make_logs(settings)
    _refuse_unusable("SANDBOX_LOGS", settings.logs)


def refuse_unusable(settings: Settings) -> None:
    """What `sandbox check` says of the group and the folders: it makes none."""
    if settings.control_group:
        control_group(settings)
    _refuse_unusable("SANDBOX_HOME", settings.home)
    _refuse_unusable("SANDBOX_LOGS", settings.logs)


def _make_logs(settings: Settings) -> None:
    """With all above it: of the state folder, too, if they are in it."""
    home = settings.home
    for folder in (*reversed(settings.logs.parents), settings.logs):
        try:
            folder.mkdir(OTHERS_READ, exist_ok=True)
        except OSError as error:
            if settings.logs == home / "log" or folder in (home, *home.parents):
                raise _unusable("SANDBOX_HOME", home, error) from error
            raise _unusable("SANDBOX_LOGS", settings.logs, error) from error


def _refuse_unusable(variable: str, folder: Path) -> None:
    """What is there of it decides: the folder, or else the nearest above it."""
    there = next(each for each in (folder, *folder.parents) if os.path.lexists(each))
    if not there.is_dir():
        raise _unusable(variable, folder, OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(there)))
    if not os.access(there, os.W_OK | os.X_OK):
        raise _unusable(variable, folder, OSError(errno.EACCES, os.strerror(errno.EACCES), str(there)))


def _unusable(variable: str, folder: Path, error: OSError) -> SettingsError:
    return SettingsError(
        f"{variable} is {str(folder)!r}, which cannot be used: {error}. Allowed is a folder that this user may write."
    )


def _let_members_look(settings: Settings) -> None:
    """The control group enters the folder of the sockets, and reads in the lock who runs. Only the control socket lets
    it speak (loading.py).
    """
    if settings.control_group:
        for path, mode in (
            (settings.sockets, OWNER_AND_MEMBERS_WHO_ENTER),
            (settings.sockets / "lock", OWNER_AND_MEMBERS_WHO_READ),
        ):
            os.chown(path, -1, control_group(settings))
            path.chmod(mode)


def control_group(settings: Settings) -> int:
    try:
        number = grp.getgrnam(settings.control_group).gr_gid
    except KeyError:
        number = None
    if number is None or (os.geteuid() != 0 and number not in (os.getegid(), *os.getgroups())):
        raise SettingsError(
            f"SANDBOX_CONTROL_GROUP is {settings.control_group!r}; allowed is the name of a group that this user is in."
        )
    return number


def refuse_foreign_redis(settings: Settings) -> None:
    """Two servers would ruin the data. Waits a moment for one that is ending: it holds the lock a little longer."""
    try:
        lock = redis_folder(settings) / "lock"
        server = _holder(lock, wait_seconds=GONE_SECONDS) if settings.embedded_redis else None
    except OSError as error:
        raise _unusable("SANDBOX_HOME", settings.home, error) from error
    if server is not None:
        raise AlreadyRunning(
            f"a Redis that this sandbox has not started (process {server}) serves the data of {settings.home}. "
            f"End it, and start again."
        )


def redis_folder(settings: Settings) -> Path:
    return settings.home / "redis"


def lock(path: Path, *, wait_seconds: float = 0.0, survives_exec: bool = False) -> int | None:
    """Holds the file until this process ends. If another process holds it, returns which."""
    if path in _held:
        return None
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if not locked(descriptor, wait_seconds):
        holder = _read(descriptor)
        os.close(descriptor)
        return holder
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)
    os.set_inheritable(descriptor, survives_exec)
    _held[path] = descriptor
    return None


def descriptor(path: Path) -> int:
    return _held[path]


def adopt(path: Path, descriptor: int) -> None:
    """A lock that this process held already when it was another program."""
    os.set_inheritable(descriptor, False)
    _held[path] = descriptor


def owner(settings: Settings) -> int | None:
    """The circusd that runs on the state folder, if one does. Looks, and does not wait."""
    return _holder(settings.sockets / "lock", wait_seconds=0.0)


def let_go() -> None:
    """For a forked child, because the locks are its parent's."""
    for descriptor in _held.values():
        os.close(descriptor)
    _held.clear()


def locked(descriptor: int, wait_seconds: float, kind: int = fcntl.LOCK_EX) -> bool:
    until = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
        time.sleep(LOOK_SECONDS)


def is_held(path: Path) -> bool:
    """A lock of any kind. Looks, and does not wait."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not locked(descriptor, 0.0, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _holder(path: Path, *, wait_seconds: float) -> int | None:
    """The process that holds a lock, if one does. Those that look are in nobody's way but for a moment."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return None if locked(descriptor, wait_seconds, fcntl.LOCK_SH) else _read(descriptor)
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> int:
    """The process that holds the lock. One that has just taken it writes its number a moment later."""
    until = time.monotonic() + GONE_SECONDS
    while not (written := os.pread(descriptor, 32, 0)) and time.monotonic() < until:
        time.sleep(LOOK_SECONDS)
    return int(written or b"0")
