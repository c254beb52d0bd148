"""Listens, and forks a process for each request."""

import contextlib
import fcntl
import grp
import os
import pwd
import signal
import socket
import struct
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from steward.as_user import die_with_parent
from steward.cage import SOCKET_FD, VARIABLES_FD
from steward.config import Config
from steward.request import Request
from steward.root_files import opened, write_file
from steward.verbs import GRACE_SECONDS, Steward

MOST_REQUESTS: Final = 256  # of the service; those that serve a web process do not count
MOST_REQUESTS_OF_OTHERS: Final = 32
MOST_REQUESTS_OF_A_MEMBER: Final = 4
PAUSE_SECONDS: Final = 0.1  # after the kernel has refused a descriptor or a process
PID: Final = struct.Struct("i")


class Daemon:
    """Accepts, and forks. One thread: what it forks dies with it."""

    def __init__(self, steward: Steward) -> None:
        self._steward = steward
        self._requests: dict[int, int] = {}  # process: whose
        self._serving: set[int] = set()  # those of them that have a web process
        self._told, self._tell = os.pipe()  # they say so here
        os.set_blocking(self._told, False)
        self._stopping = False

    def run(self) -> None:
        path = Path(self._steward.config.socket)
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        os.chmod(path, 0o666)  # who may what is decided by who asks
        listener.listen(64)
        listener.settimeout(0.5)
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, self._stop)
        say(f"listening at {path}: {self._steward.about()['isolation']}")
        while not self._stopping:
            self._reap()
            try:
                connection, _ = listener.accept()
                with connection:
                    self._begin(listener, connection)
            except TimeoutError:
                continue
            except OSError as error:  # this request fails; those that run, and their workspaces, go on
                say(f"a request is not taken: {error}")
                time.sleep(PAUSE_SECONDS)
        listener.close()
        self._end_all()

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _begin(self, listener: socket.socket, connection: socket.socket) -> None:
        peer = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
        if self._is_full(peer):
            return
        own = os.getpid()
        child = os.fork()
        if child == 0:
            try:
                die_with_parent()
                if os.getppid() == own:
                    listener.close()
                    Request(self._steward, connection, peer, self._serves).serve()
            except Exception:
                say(f"a request has failed:\n{traceback.format_exc()}")
            finally:
                os._exit(0)
        self._requests[child] = peer

    def _is_full(self, peer: int) -> bool:
        """Strangers take no place of the service's, and web processes, of which each workspace has one, take none."""
        ours = (0, self._steward.config.service_uid)
        if peer in ours:
            known = [child for child, whose in self._requests.items() if whose in ours and child not in self._serving]
            return len(known) >= MOST_REQUESTS
        others = [whose for whose in self._requests.values() if whose not in ours]
        return len(others) >= MOST_REQUESTS_OF_OTHERS or others.count(peer) >= MOST_REQUESTS_OF_A_MEMBER

    def _serves(self) -> None:
        """What a request calls, in its own process, when it has the place of its workspace's web process."""
        os.write(self._tell, PID.pack(os.getpid()))

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while told := os.read(self._told, 64 * PID.size):
                self._serving.update(pid for (pid,) in PID.iter_unpack(told) if pid in self._requests)
        for child in list(self._requests):
            if os.waitpid(child, os.WNOHANG)[0]:
                del self._requests[child]
                self._serving.discard(child)

    def _end_all(self) -> None:
        """Web processes get TERM; whatever has not ended then dies with us."""
        until = time.monotonic() + GRACE_SECONDS + 5
        for child in self._requests:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGTERM)
        while self._requests and time.monotonic() < until:
            self._reap()
            time.sleep(0.02)


def say(text: str) -> None:
    print(f"steward: {text}", file=sys.stderr, flush=True)


def prepare(config: Config) -> None:
    """Folders. base is sticky: the service makes its own things there, and moves nothing of root's."""
    os.umask(0o022)
    service = pwd.getpwnam(config.service)
    web = grp.getgrgid(pwd.getpwnam(config.web).pw_gid)
    places, run = config.places, Path(config.socket).parent
    modes = {Path(config.state): 0o700, run: 0o755, run / "web": 0o700, run / "steps": 0o700}
    for folder, mode in modes.items():
        folder.parent.mkdir(parents=True, exist_ok=True)
        be_roots(folder, mode)
    places.root.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        places.root.mkdir()
    with folder_of(places.root) as base:
        os.fchown(base, 0, service.pw_gid)  # first of all: then the service swaps nothing of root's in it
        os.fchmod(base, 0o1775)
        be_roots(places.homes, 0o711, base)
        for folder, group, mode in ((places.sockets, web.gr_gid, 0o2750), (places.shared_media, service.pw_gid, 0o755)):
            with contextlib.suppress(FileExistsError):  # it is the service's since it was made
                os.mkdir(folder.name, 0o700, dir_fd=base)
                with opened(folder.name, base) as made:
                    os.fchown(made, service.pw_uid, group)
                    os.fchmod(made, mode)
    config.git_config.unlink(missing_ok=True)
    write_file(config.git_config, f"[safe]\n\tdirectory = {places.mirror}\n", 0, 0o644)


def be_roots(path: Path, mode: int, beneath: int | None = None) -> None:
    with contextlib.suppress(FileExistsError):
        os.mkdir(path if beneath is None else path.name, 0o700, dir_fd=beneath)
    with folder_of(path, beneath) as folder:
        if os.fstat(folder).st_uid != 0:
            sys.exit(f"{path} must be a folder of root's")
        os.fchmod(folder, mode)


@contextlib.contextmanager
def folder_of(path: Path, beneath: int | None = None) -> Iterator[int]:
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(opened(path if beneath is None else path.name, beneath))
        except NotADirectoryError:
            sys.exit(f"{path} must be a folder, and no link to one")
        yield folder


def serve(config: Config) -> None:
    if os.geteuid() != 0:
        sys.exit("the steward is root")
    for descriptor in (SOCKET_FD, VARIABLES_FD):  # numbers that commands inherit: taken, so that nothing else has them
        with contextlib.suppress(OSError):
            os.fstat(descriptor)
            continue
        os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
    prepare(config)
    with open(Path(config.state, "steward.lock"), "ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit("the steward runs already")
        Daemon(Steward(config)).run()
