"""The cage: how a command becomes one of a workspace's, and how all that it began ends."""

import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Any, Final

from steward.config import Config
from steward.groups import Groups
from steward.processes import child_of, send
from steward.programs import call

# What everybody may write, where it is there: each cage has its own.
SCRATCH: Final = ("/tmp", "/var/tmp", "/dev/shm", "/run/lock", "/dev/mqueue")
SCRATCH_MB: Final = 256
SOCKET_FD, VARIABLES_FD = 3, 4  # of a command in a cage
# The first process of the namespace. It is root's, so nobody in the cage can touch it; it collects the dead.
FIRST: Final = """
for folder in {scratch}; do
    [ ! -d "$folder" ] || mount -t tmpfs -o size={size}m,mode=1777,nosuid,nodev tmpfs "$folder" || exit 125
done
"$@"
exit $?
"""
# The last one before the command: the workspace's user. Variables come by a descriptor: not by root's environment.
LAST: Final = """
umask 007
while IFS= read -r line; do export "$line"; done <&4
exec 4<&-
cd "$1" || exit 125
shift
exec "$@"
"""


class Cage:
    """How a command becomes one of the workspace's: a chain of programs of util-linux, each of which execs the next."""

    def __init__(self, config: Config, groups: Groups) -> None:
        self._config = config
        self._groups = groups
        if call(*self._enter(), *self._become(config.last_uid, 0), "true").returncode != 0:
            sys.exit("there is no isolation here: `unshare --pid --mount` as root does not work")

    def words(self, uid: int, folder: str, command: Sequence[str], seconds: float) -> list[str]:
        last = ["sh", "-c", LAST, "sh", folder, *command]
        return [*self._enter(), *self._become(uid, seconds), *last]

    @staticmethod
    def _enter() -> list[str]:
        spaces = ("--pid", "--mount", "--ipc", "--uts", "--fork", "--kill-child=KILL", "--mount-proc")
        return ["unshare", *spaces, "sh", "-c", FIRST.format(scratch=" ".join(SCRATCH), size=SCRATCH_MB), "sh"]

    def _become(self, uid: int, seconds: float) -> list[str]:
        config = self._config
        disk = config.disk_mb << 20
        limits = [f"--nproc={config.processes}", f"--nofile={config.files}", f"--fsize={disk}", "--core=0"]
        if seconds:
            limits.append(f"--cpu={int(seconds) + 1}")
        if "memory" not in self._groups.folders:
            limits.append(f"--as={config.memory_mb << 20}")
        user = ("--reuid", str(uid), "--regid", str(uid), "--clear-groups", "--no-new-privs")
        nothing = ("--bounding-set=-all", "--inh-caps=-all", "--pdeathsig", "KILL")
        return ["prlimit", *limits, "setpriv", *user, *nothing, "--"]

    def about(self) -> dict[str, Any]:
        return {
            "view": "a cage sees the files that its user may read",
            "memory": "a control group" if "memory" in self._groups.folders else "each process alone",
            "processes": "a control group" if "pids" in self._groups.folders else "each user",
        }


def first_of(process: subprocess.Popen[bytes]) -> int | None:
    """The first process of the namespace that this one made: when it dies, the kernel kills all in it."""
    return child_of(process.pid)


def kill_cage(process: subprocess.Popen[bytes]) -> None:
    """Returns when nothing of it is left."""
    if process.poll() is not None:  # its number may be another's
        return
    first = first_of(process)
    if not (first and send(first, signal.SIGKILL, lambda: first_of(process) == first)):
        process.kill()
    try:
        process.wait(2)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def end_cage(process: subprocess.Popen[bytes]) -> None:
    """TERM for the command, which is the child of the first one."""
    if process.poll() is not None:
        return
    first = first_of(process)
    if first and (command := child_of(first)):
        send(command, signal.SIGTERM, lambda: first_of(process) == first and child_of(first) == command)
