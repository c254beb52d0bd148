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
from pathlib import Path
from typing import Final

from steward.as_user import die_with_parent
from steward.cage import SOCKET_FD, VARIABLES_FD
from steward.config import Config
from steward.request import Request
from steward.root_files import opened, write_file
from steward.verbs import GRACE_SECONDS, Steward

MOST_REQUESTS: Final = 256
MOST_REQUESTS_OF_A_MEMBER: Final = 4


class Daemon:
    """Accepts, and forks. One thread: what it forks dies with it."""

    def __init__(self, steward: Steward) -> None:
        self._steward = steward
        self._requests: dict[int, int] = {}  # process: whose
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
            with contextlib.suppress(TimeoutError):
                connection, _ = listener.accept()
                self._begin(listener, connection)
        listener.close()
        self._end_all()

    def _stop(self, *_: object) -> None:
        self._stopping = True

    def _begin(self, listener: socket.socket, connection: socket.socket) -> None:
        peer = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
        is_ours = peer in (0, self._steward.config.service_uid)
        most = MOST_REQUESTS if is_ours else MOST_REQUESTS_OF_A_MEMBER
        known = [whose for whose in self._requests.values() if is_ours or whose == peer]
        if len(known) >= most:
            connection.close()
            return
        own = os.getpid()
        child = os.fork()
        if child == 0:
            die_with_parent()
            if os.getppid() == own:
                listener.close()
                with contextlib.suppress(Exception):
                    Request(self._steward, connection, peer).serve()
            os._exit(0)
        connection.close()
        self._requests[child] = peer

    def _reap(self) -> None:
        for child in list(self._requests):
            if os.waitpid(child, os.WNOHANG)[0]:
                del self._requests[child]

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
    modes = {Path(config.state): 0o700, run: 0o755, run / "web": 0o700, run / "steps": 0o700, places.homes: 0o711}
    for folder, mode in modes.items():
        folder.mkdir(parents=True, exist_ok=True)
        found = folder.lstat()
        if found.st_uid != 0 or folder.is_symlink():
            sys.exit(f"{folder} must be a folder of root's")
        os.chmod(folder, mode)
    os.chown(places.root, 0, service.pw_gid)
    os.chmod(places.root, 0o1775)
    for folder, group, mode in ((places.sockets, web.gr_gid, 0o2750), (places.shared_media, service.pw_gid, 0o755)):
        with contextlib.suppress(FileExistsError):  # it is the service's since it was made
            folder.mkdir(mode=0o700)
            with opened(folder) as made:
                os.fchown(made, service.pw_uid, group)
                os.fchmod(made, mode)
    config.git_config.unlink(missing_ok=True)
    write_file(config.git_config, f"[safe]\n\tdirectory = {places.mirror}\n", 0, 0o644)


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
