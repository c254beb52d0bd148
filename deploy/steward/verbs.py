"""The verbs: what the steward does when it is asked to."""

import contextlib
import fcntl
import grp
import json
import os
import pwd
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

from service.workspaces import dotenv, looking, recipes
from service.workspaces.places import Home
from steward import inside, mounts, network
from steward.as_user import as_user, die_with_parent
from steward.cage import SCRATCH, SOCKET_FD, VARIABLES_FD, Cage
from steward.config import Config
from steward.errors import Refused
from steward.groups import Groups
from steward.processes import KILL_SECONDS, child_of, held_mb, kill_all, parent_of, processes, send
from steward.programs import OUTER, call
from steward.root_files import opened
from steward.share import Amounts, Share
from steward.uids import Uids
from steward.users import Users

VERSION: Final = 1
VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
LOOKED_THROUGH: Final = (*SCRATCH, "/run", "/var/spool/cron", "/var/mail", "/var/lock")
GRACE_SECONDS: Final = 10  # of a web process, from TERM to KILL


class Steward:
    """All that a request needs."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.uids = Uids(config)
        self.users = Users(config, self.uids)
        self.groups = Groups.find(config)
        self.cage = Cage(config, self.groups)
        self.metadata = network.forbid_metadata(config)
        self.setuid = mounts.forbid_setuid(config)

    def home(self, slug: str) -> Home:
        return self.config.places.home(slug)

    # --- users and folders

    def homes(self) -> list[str]:
        """The service cannot list that folder itself."""
        return os.listdir(self.config.places.homes)

    def make_user(self, slug: str) -> None:
        self.users.make(slug)

    def make_folders(self, slug: str) -> None:
        uid = self.uids.of(slug)
        with opened(self.config.places.homes) as homes:
            with contextlib.suppress(FileExistsError):
                os.mkdir(slug, 0o700, dir_fd=homes)
            with opened(slug, homes) as folder:
                os.fchown(folder, uid, uid)
        web = pwd.getpwnam(self.config.web).pw_uid
        as_user(uid, lambda: inside.lay_out(self.home(slug), web))

    def remove_folders(self, slug: str) -> None:
        """`rm` follows no link, and w/ is root's. A member may write meanwhile: it is done again."""
        path = self.home(slug).path
        for _ in range(3):
            words = ["rm", "-rf", "--one-file-system", "--", str(path)]
            done = call(*words)
            if not os.path.lexists(path):
                return
        raise Refused(f"its folder cannot be removed: {done.stderr.strip()[-500:]}")

    def remove_user(self, slug: str) -> None:
        self.kill(slug)
        if (uid := self.uids.last(slug)) is not None:
            self._find(SCRATCH, uid, "-delete")
        self.users.remove(slug)
        self.groups.remove(slug)

    def grant(self, slug: str, login: str) -> None:
        self.users.grant(slug, login)

    def revoke(self, slug: str, login: str) -> None:
        self.users.revoke(slug, login)

    # --- in its folder

    def facts(self, slug: str) -> dict[str, Any]:
        uid, home = self.uids.all().get(slug), self.home(slug)
        if uid is None or not self.users.is_there(slug, uid):
            return {"user": False}
        if not home.path.is_dir():
            return {"user": True}
        found: dict[str, Any] = as_user(uid, lambda: looking.look(home))
        return {"user": True, **found}

    def disk_mb(self, slug: str) -> int:
        """In its folder, and what its processes hold though it was deleted there."""
        device = os.stat(self.config.places.homes).st_dev
        return self._du(slug, "--block-size=1K") // 1024 + held_mb(self.processes(slug), device)

    def share(self, slug: str) -> Share:
        return Share(lambda: self._used(slug), self._free)

    def _used(self, slug: str) -> tuple[str, Amounts]:
        mb, inodes = self.disk_mb(slug), self._du(slug, "--inodes")
        room = self.config.disk_mb - mb, self.config.inodes - inodes
        if room[0] < 0:
            return f"it uses {mb} MB of disk, of {self.config.disk_mb}", room
        if room[1] < 0:
            return f"it has {inodes} files and folders, of {self.config.inodes}", room
        return "", room

    def _free(self) -> Amounts:
        found = os.statvfs(self.config.places.homes)
        return found.f_bfree * found.f_frsize >> 20, found.f_ffree

    def _du(self, slug: str, what: str) -> int:
        found = call("du", "-sx", what, "--", str(self.home(slug).path)).stdout.split()
        return int(found[0]) if found else 0

    def last_used(self, slug: str) -> float | None:
        return as_user(self.uids.of(slug), lambda: looking.last_used(self.home(slug)))

    def write_env(self, slug: str, values: Mapping[str, str]) -> None:
        as_user(self.uids.of(slug), lambda: dotenv.lay(self.home(slug), values))

    def link_media(self, slug: str) -> None:
        as_user(self.uids.of(slug), lambda: inside.link_media(self.home(slug), self.config.places.shared_media))

    def unlink_media(self, slug: str) -> None:
        if (uid := self.uids.all().get(slug)) is not None and self.home(slug).path.is_dir():
            as_user(uid, lambda: inside.unlink_media(self.home(slug)))

    def log(self, slug: str) -> list[str]:
        return as_user(self.uids.of(slug), lambda: inside.last_lines(self.home(slug).log / "web.log"))

    # --- its processes

    def processes(self, slug: str) -> list[int]:
        uid = self.uids.all().get(slug)
        return processes(uid) if uid is not None else []

    def kill(self, slug: str) -> None:
        if (uid := self.uids.all().get(slug)) is not None:
            kill_all(uid)

    @contextlib.contextmanager
    def running(self, slug: str) -> Iterator[None]:
        """Who runs a step shares this lock."""
        with open(self._steps_file(slug), "a+") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            yield

    def runs_a_step(self, slug: str) -> bool:
        with open(self._steps_file(slug), "a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def left(self, slug: str) -> list[str]:
        uid, places = self.uids.last(slug), self.config.places
        found = [f"its folder {self.home(slug).path}"] if os.path.lexists(self.home(slug).path) else []
        for look, what in ((pwd.getpwnam, "user"), (grp.getgrnam, "group")):
            with contextlib.suppress(KeyError):
                look(slug)
                found.append(f"the {what} {slug}")
        if uid is not None:
            found += [f"the process {pid}" for pid in processes(uid)]
            found += [f"the file {line}" for line in self._find(LOOKED_THROUGH, uid, "-print")[:20]]
            shared = (places.root, places.homes, places.sockets, places.shared_media)
            found += [f"its entry in the access list of {path}" for path in shared if uid in inside.named(path)]
        return found

    @staticmethod
    def _find(places: Iterable[str], uid: int, what: str) -> list[str]:
        """Each of them may be a link, or a mount in another of them."""
        folders = sorted({os.path.realpath(place) for place in places if os.path.isdir(place)})
        done = call("find", *folders, "-xdev", "-depth", "-uid", str(uid), what)
        return sorted(set(done.stdout.splitlines()))

    def status(self, slug: str) -> dict[str, Any]:
        with contextlib.suppress(OSError, ValueError), open(self._web_file(slug)) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                found = json.load(file)
                first = child_of(found["cage"])
                return {"state": "active", "pid": (first and child_of(first)) or 0, **found}
        return {"state": "stopped", "pid": 0}

    def restart(self, slug: str) -> None:
        """Ends the web process; the circusd of the workspaces starts it again."""
        request = self.status(slug).get("request")
        ours = os.getppid()  # requests are the daemon's children, as this one is
        if request is None or not send(request, signal.SIGTERM, lambda: parent_of(request) == ours):
            raise Refused(f"{slug} does not run: start it on the page of the workspaces")

    def _steps_file(self, slug: str) -> Path:
        return self._run / "steps" / slug

    def _web_file(self, slug: str) -> Path:
        return self._run / "web" / slug

    @property
    def _run(self) -> Path:
        return Path(self.config.socket).parent

    @contextlib.contextmanager
    def serving(self, slug: str) -> Iterator[IO[str]]:
        """One web process a workspace; the one before may be about to end."""
        until = time.monotonic() + GRACE_SECONDS + KILL_SECONDS
        with open(self._web_file(slug), "a+") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:
                        raise Refused(f"{slug} is served already") from None
                    time.sleep(0.05)
            file.truncate(0)
            yield file

    # --- a cage

    def line(self, slug: str, step: str, arguments: Sequence[str]) -> tuple[list[str], str, dict[str, str]]:
        """The command line of a step. It reads the project's files, so it is made as the workspace's user."""
        if step == "venv" and arguments[1:] and arguments[1] not in self.config.pythons:
            raise Refused(f"there is no Python {arguments[1]!r}; there are {', '.join(self.config.pythons)}")
        home = self.home(slug)
        asked = recipes.Asked(self.config.places, home, arguments, self.config.origin, self.config.index)

        def make() -> tuple[list[str], str, dict[str, str]]:
            line = recipes.line(step, asked)
            return list(map(str, line.words)), str(line.folder), dict(line.environment)

        words, folder, environment = as_user(self.uids.of(slug), make)
        if "PIP_CACHE_DIR" in environment:  # not one for all: what one has built another one would run
            environment["PIP_CACHE_DIR"] = str(home.data / ".cache" / "pip")
        if "GIT_CONFIG_GLOBAL" in environment:
            environment["GIT_CONFIG_GLOBAL"] = str(self.config.git_config)
        return words, folder, environment

    def start(
        self, slug: str, folder: str, words: Sequence[str], variables: Mapping[str, str], seconds: float
    ) -> subprocess.Popen[bytes]:
        """Its standard output is a pipe. What is at SOCKET_FD is inherited, too."""
        lines = [f"{name}={value}\n" for name, value in variables.items() if VARIABLE.fullmatch(name)]
        descriptor = os.memfd_create("variables")
        os.write(descriptor, "".join(line for line in lines if line.count("\n") == 1 and "\0" not in line).encode())
        os.lseek(descriptor, 0, os.SEEK_SET)
        os.dup2(descriptor, VARIABLES_FD)
        os.close(descriptor)
        self.groups.make(slug)

        def enter() -> None:
            die_with_parent()
            self.groups.enter(slug)
            os.nice(5)
            Path("/proc/self/oom_score_adj").write_text("500")

        return subprocess.Popen(
            self.cage.words(self.uids.of(slug), folder, words, seconds),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=OUTER,
            cwd="/",
            start_new_session=True,
            pass_fds=(SOCKET_FD, VARIABLES_FD),
            preexec_fn=enter,
        )

    def about(self) -> dict[str, Any]:
        program = Path(__file__).resolve().parents[1]
        return {
            "version": VERSION,
            "base": self.config.base,
            "origin": self.config.origin,
            "pythons": list(self.config.pythons),
            "web": [sys.executable, "-I", str(program), "web"],
            "isolation": {**self.cage.about(), "metadata": self.metadata, "setuid": self.setuid},
        }


def look(config: Config) -> dict[str, Any]:
    """What there is for isolation, without a change."""
    cage = Cage(config, Groups.look(config))
    return {**cage.about(), "metadata": network.look(config), "setuid": mounts.look(config)}
