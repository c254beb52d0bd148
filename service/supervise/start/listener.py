"""The listening socket outlives a killed circusd: its web processes hold it. The next circusd takes a copy of it
before it ends them, so that connections wait meanwhile, and are not refused.

Linux lets a process copy a descriptor out of another of the same user (pidfd_getfd). Where there is no such
thing, or the host forbids it (ptrace_scope), the address is free for a moment, and then bound anew.
"""

import ctypes
import errno
import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, Final, TypeAlias

import psutil

from service.supervise.start import state

ALONE_SECONDS: Final = 5.0
PIDFD_GETFD: Final = 438  # the same number on every architecture

Address: TypeAlias = tuple[str, int] | str

_kept: dict[Address, socket.socket] = {}


def keep(processes: Iterable[psutil.Process], host: str, port: int) -> None:
    """Takes the socket that listens there from one of these, if one has it."""
    wanted = address(host, port)
    for process in processes:
        with suppress(psutil.Error, OSError, AttributeError):
            for held in process.net_connections("all"):
                if held.laddr == wanted and held.type == socket.SOCK_STREAM and not held.raddr:
                    copied = _copy(process.pid, held.fd)
                    if copied.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                        _kept[wanted] = copied
                        return


def take(descriptors: Iterable[int]) -> None:
    """Listening sockets that this process held already when it was another program."""
    for descriptor in descriptors:
        held = socket.socket(fileno=descriptor)
        held.set_inheritable(False)
        name = held.getsockname()
        _kept[name if isinstance(name, str) else name[:2]] = held


def held() -> list[int]:
    """Those that nobody has asked for: the way back from a restart may need them."""
    return [held.fileno() for held in _kept.values()]


def let_go() -> None:
    """Of those at which nobody listens any more."""
    while _kept:
        _kept.popitem()[1].close()


def keeps(host: str, port: int) -> bool:
    return address(host, port) in _kept


def address(host: str, port: int) -> Address:
    if host.startswith("unix:"):
        return host.removeprefix("unix:")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.getaddrinfo(host, port, family)[0][4][:2]  # type: ignore[return-value]


def _copy(pid: int, descriptor: int) -> socket.socket:
    """Raises OSError where it is not allowed, and AttributeError where there is no pidfd."""
    process = os.pidfd_open(pid)
    try:
        copied = ctypes.CDLL(None, use_errno=True).syscall(PIDFD_GETFD, process, descriptor, 0)
    finally:
        os.close(process)
    if copied < 0:
        raise OSError(ctypes.get_errno(), "the descriptor cannot be copied")
    return socket.socket(fileno=copied)


def listen(stock: Callable[[Any], None]) -> Callable[[Any], None]:
    """Is given what it replaces in circus, and returns what takes its place (private_names.py)."""

    def listen(bound: Any) -> None:
        kept = _kept.pop(bound.path if bound.is_unix else (bound.host, bound.port), None)
        if kept is None:
            with _alone_at(bound.path) if bound.is_unix else nullcontext():
                stock(bound)
            return
        os.dup2(kept.fileno(), bound.fileno())
        kept.close()
        bound.setblocking(bound.blocking)
        bound.listen(bound.backlog)

    return listen


@contextmanager
def _alone_at(path: str) -> Iterator[None]:
    """Replaces a socket at which nobody listens; of two starts at once, the second finds the first one listening.

    The lock on the folder keeps them apart. Whoever holds it for longer is no start.
    """
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        state.locked(folder, ALONE_SECONDS)
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(path) == 0:
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE), path)
        yield
    finally:
        os.close(folder)
