"""What a killed circusd left: its processes go on serving, until the next start ends them, before it binds.

Circus starts each process in a session of its own. A hook puts a mark into its environment: the watcher, and how that
is stopped. A session belongs to a state folder if one of its processes has the mark and names the folder. All of
such a session is ended, in circus's order, each in the time that a stop gives it. What is on trial has begun nothing,
and is killed. A pid alone proves nothing.

A runner puts the number of its session into the environment of what it starts. A program that has left the session,
to outlive the runner, has the mark, but another session than the one in its environment. Neither a stop nor a start
ends it.

The environment names the circusd, too: while that lives, its processes are no orphans, whatever became of its lock.
"""

import itertools
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, NamedTuple

import psutil

from service.errors import AlreadyRunning
from service.supervise.reload import candidate
from service.supervise.start.environment import SESSION

MARK: Final = "SANDBOX_WATCHER"
SUPERVISOR: Final = "SANDBOX_SUPERVISOR"
KEEP_ENVIRONMENT: Final = "SPT_NOENV"  # setproctitle, which gunicorn uses where it is installed, would write over it
LOOK_SECONDS: Final = 0.02
KILL_SECONDS: Final = 5.0
SWEEPS: Final = 20

taken_over = ""  # what this start has found, for the log, which is opened later


class Watcher(NamedTuple):
    """What the mark says. The lowest priority stops first."""

    priority: int
    patience_seconds: float
    name: str


class Orphan(NamedTuple):
    process: psutil.Process
    watcher: Watcher

    @property
    def lives(self) -> bool:
        with suppress(psutil.NoSuchProcess):
            return bool(self.process.is_running() and self.process.status() != psutil.STATUS_ZOMBIE)
        return False


def mark(watcher: Any) -> None:
    """Puts the mark into the environment of what this watcher of circus starts from now on."""
    watcher.env[MARK] = f"{watcher.priority} {watcher.graceful_timeout:g} {watcher.name}"
    watcher.env[SUPERVISOR] = str(os.getpid())
    watcher.env[KEEP_ENVIRONMENT] = "1"


def supervisor(left: Sequence[Orphan]) -> int | None:
    """The circusd that started one of these, if it lives: it is its parent still."""
    for orphan in left:
        with suppress(psutil.Error, KeyError):
            parent: int = orphan.process.ppid()
            if orphan.process.environ()[SUPERVISOR] == str(parent):
                return parent
    return None


def tell(home: Path, left: Sequence[Orphan]) -> None:
    global taken_over
    count = Counter(orphan.watcher.name for orphan in left)
    those = ", ".join(f"{name} ({number})" for name, number in count.items())
    taken_over = f"the supervisor on {home} was killed; ending first what it left: {those}"
    print(f"sandbox: {taken_over}", file=sys.stderr, flush=True)


def end(home: Path, left: Sequence[Orphan], but: Collection[int] = ()) -> None:
    """Returns when they are gone. The caller holds the lock of the folder."""
    for watcher, group in itertools.groupby(left, key=attrgetter("watcher")):
        members = list(group)
        leaders = _leaders(members)
        for orphan in leaders:
            _send(orphan, signal.SIGTERM)
        _wait(leaders, watcher.patience_seconds)
        _kill(members)
        for _ in range(SWEEPS):  # they may have started others meanwhile
            if not (later := [orphan for orphan in find(home, but) if orphan.watcher == watcher]):
                break
            _kill(later)


def find(home: Path, but: Collection[int] = ()) -> list[Orphan]:
    """Returns them in the order in which they are to be ended, without these sessions."""
    sessions: dict[int, Watcher] = {}
    processes: dict[int, list[psutil.Process]] = {}
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError, KeyError, ValueError):  # it has ended, or its mark is none
            session = os.getsid(process.pid)
            processes.setdefault(session, []).append(process)
            if (watcher := _watcher(process.environ(), home, session)) is not None:
                sessions[session] = watcher
    for session in (os.getsid(0), *but):
        sessions.pop(session, None)
    found = [Orphan(process, watcher) for session, watcher in sessions.items() for process in processes[session]]
    return sorted(found, key=attrgetter("watcher"))


def of_session(session: int) -> Iterator[int]:
    for pid in psutil.pids():
        with suppress(ProcessLookupError, PermissionError):
            if os.getsid(pid) == session:
                yield pid


def _watcher(environment: Mapping[str, str], home: Path, session: int) -> Watcher | None:
    if MARK not in environment or environment.get(SESSION, str(session)) != str(session):
        return None
    if not os.path.samefile(environment["SANDBOX_HOME"], home):
        return None
    priority, patience, name = environment[MARK].split(" ", 2)
    on_trial = os.path.isdir(environment.get(candidate.VARIABLE, ""))
    return Watcher(int(priority), 0.0 if on_trial else float(patience), name)


def _leaders(orphans: Collection[Orphan]) -> list[Orphan]:
    """Those whose parent is none of these: a leader tells its children to stop. If it is dead, each child is told."""
    pids = {orphan.process.pid for orphan in orphans}
    return [orphan for orphan in orphans if _parent(orphan) not in pids]


def _parent(orphan: Orphan) -> int:
    with suppress(psutil.NoSuchProcess):
        return int(orphan.process.ppid())
    return 0


def _send(orphan: Orphan, signum: int) -> None:
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
        orphan.process.send_signal(signum)


def _wait(orphans: Collection[Orphan], seconds: float) -> bool:
    until = time.monotonic() + seconds
    while any(orphan.lives for orphan in orphans):
        if time.monotonic() > until:
            return False
        time.sleep(LOOK_SECONDS)
    return True


def _kill(orphans: Collection[Orphan]) -> None:
    for orphan in orphans:
        _send(orphan, signal.SIGKILL)
    if not _wait(orphans, KILL_SECONDS):
        left = ", ".join(str(orphan.process.pid) for orphan in orphans if orphan.lives)
        raise AlreadyRunning(f"processes of an earlier sandbox could not be ended: {left}. End them, and start again.")
