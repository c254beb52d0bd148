"""The zygote: the process from which attempts are forked that want a process of their own.

A fork of a process with threads may copy a lock that is held. So the runner forks a zygote before it starts a thread:
it has loaded the task types, has one thread for ever, and does nothing but fork, end and bury attempts.

For each attempt the runner hands it two sockets. One is the attempt's (frames.py). The other, the lead, is between
runner and zygote: the runner sends how the attempt is to end, and hears how it has ended. When the lead is closed, by
the runner or by its death, the attempt is killed, with its group and the groups of its programs: here, because only a
parent knows that a number is still that of its child.

When the zygote dies, the kernel kills the attempts.
"""

import ctypes
import gc
import logging
import os
import select
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Final, NoReturn, TypeAlias

from service.errors import Interrupted, SandboxError
from service.runner.shared import REASONS, Shared

FORK: Final = b"f"
KILL: Final = b"k"
INTERRUPT: Final = {reason: bytes([place]) for place, reason in enumerate(REASONS, 1)}
NOT_FORKED: Final = b"!"  # before the reason, instead of how it has ended
LONGEST_WORD: Final = 200
SIGNAL: Final = signal.SIGUSR1  # says to look at the shared memory
OF_OTHERS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, SIGNAL)  # sent to a whole group or session
PR_SET_PDEATHSIG: Final = 1
FAILED: Final = 1

Begin: TypeAlias = Callable[[socket.socket, Shared], None]

log = logging.getLogger("sandbox.runner")


class ZygoteGone(Exception):
    """Nothing can be forked any more; the runner has to be replaced."""


def refuse_replaced_sockets(names: Sequence[str]) -> None:
    """gevent reaps children behind the zygote's back, and its sockets wait in a hub that a fork does not have."""
    monkey = sys.modules.get("gevent.monkey")
    if names and monkey is not None and any(map(monkey.is_module_patched, ("os", "socket", "select", "signal"))):
        raise SandboxError(
            f"{names[0]} wants a process for each attempt, and a module of task types has called "
            "gevent.monkey.patch_all(): the two do not go together, leave out one of them"
        )


class Fork:
    """An attempt's process, as its runner sees it. It does not outlive the `with`."""

    def __init__(
        self, talk: socket.socket, lead: socket.socket, wake: Callable[[], None], forget: "Callable[[Fork], None]"
    ) -> None:
        self.talk = talk
        self.lead = lead
        self._wake = wake
        self._forget = forget

    def interrupt(self, reason: type[Interrupted]) -> None:
        self._send(INTERRUPT[reason])

    def kill(self) -> None:
        self._send(KILL)
        self._wake()

    def _send(self, word: bytes) -> None:
        with suppress(OSError):  # it has just ended
            self.lead.send(word)

    def close(self) -> None:
        self.talk.close()
        self.lead.close()

    def __enter__(self) -> "Fork":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._forget(self)
        self.close()


class Zygote:
    """It begins with the object. `begin` is what each attempt's process does."""

    def __init__(self, begin: Begin) -> None:
        self._control, theirs = socket.socketpair()
        self._children: set[Fork] = set()
        sys.stdout.flush()
        self._pid = os.fork()
        if not self._pid:
            self._control.close()
            _live(theirs, begin)
        theirs.close()
        os.register_at_fork(after_in_child=self._let_go)  # the copy of a handler must not keep attempts alive

    def fork(self) -> Fork:
        sockets: list[socket.socket] = []
        try:
            for _ in range(2):
                sockets += socket.socketpair()
            talk, their_talk, lead, their_lead = sockets
            child = Fork(talk, lead, self._wake, self._children.discard)
            self._children.add(child)
            socket.send_fds(self._control, [FORK], [their_talk.fileno(), their_lead.fileno()])
        except OSError as error:
            for each in sockets:
                each.close()
            raise ZygoteGone(f"the process that forks attempts cannot be asked: {error.strerror}") from error
        their_talk.close()
        their_lead.close()
        self._wake()
        return child

    def _wake(self) -> None:
        """A handler may have stopped it: nothing would be forked, nor killed."""
        with suppress(ProcessLookupError, PermissionError):
            os.kill(self._pid, signal.SIGCONT)

    def end(self) -> None:
        """With all that it has forked."""
        self._control.close()
        self._wake()
        with suppress(ChildProcessError):  # somebody else has reaped it
            os.waitpid(self._pid, 0)

    def _let_go(self) -> None:
        self._control.close()
        for child in self._children:
            child.close()


# --- in the zygote ----------------------------------------------------------------------------------


def _live(control: socket.socket, begin: Begin) -> NoReturn:
    code = FAILED
    try:
        _Nursery(control, begin).live()
        code = 0
    except BaseException as error:
        log.error("the process that forks attempts ends", exc_info=error)
    finally:
        os._exit(code)


class _Attempt:
    def __init__(self, pid: int, lead: socket.socket, shared: Shared) -> None:
        self.pid = pid
        self.lead = lead
        self.shared = shared

    def obey(self) -> bool:
        """False when the runner has closed the lead."""
        try:
            word = self.lead.recv(1)
        except OSError:
            word = b""
        if word in INTERRUPT.values():
            self.shared.interrupt(word[0])
            os.kill(self.pid, SIGNAL)
        else:
            self.kill()
        return bool(word)

    def kill(self) -> None:
        for group in (self.pid, *self.shared):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)

    def has_ended(self) -> bool:
        """It is left to be reaped where that is possible: so long its number is nobody else's."""
        if hasattr(os, "waitid"):
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        ended, self._status = os.waitpid(self.pid, os.WNOHANG)
        return ended != 0

    def bury(self) -> None:
        """With what it has left in its groups, which must not go on beside the next attempt."""
        self.kill()
        status = os.waitpid(self.pid, 0)[1] if hasattr(os, "waitid") else self._status
        with suppress(OSError):
            self.lead.send(b"%d" % os.waitstatus_to_exitcode(status))
        self.lead.close()
        self.shared.close()


class _Nursery:
    """The zygote's life."""

    def __init__(self, control: socket.socket, begin: Begin) -> None:
        self._control = control
        self._begin = begin
        self._pid = os.getpid()
        self._attempts: dict[int, _Attempt] = {}
        self._poll = select.poll()
        self._library = ctypes.PyDLL(None)

    def live(self) -> None:
        for signum in OF_OTHERS:
            signal.signal(signum, _pass)
        wakened, waker = os.pipe()
        os.set_blocking(waker, False)
        signal.signal(signal.SIGCHLD, _pass)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        self._at_begin = (wakened, waker)
        gc.collect()
        gc.freeze()  # a collection in a child would copy all memory
        for descriptor in (wakened, self._control.fileno()):
            self._poll.register(descriptor, select.POLLIN)
        while True:
            for descriptor, _ in self._poll.poll():
                if descriptor == wakened:
                    os.read(wakened, 4096)
                elif descriptor in self._attempts:
                    if not self._attempts[descriptor].obey():
                        self._poll.unregister(descriptor)
                elif not self._fork():
                    return self._end()
            self._bury()

    def _end(self) -> None:
        for attempt in self._attempts.values():
            attempt.kill()

    def _bury(self) -> None:
        for descriptor, attempt in list(self._attempts.items()):
            if attempt.has_ended():
                with suppress(KeyError):
                    self._poll.unregister(descriptor)
                del self._attempts[descriptor]
                attempt.bury()

    def _fork(self) -> bool:
        """False when the runner has gone."""
        word, descriptors, _, _ = socket.recv_fds(self._control, 1, 2)
        sockets = [socket.socket(fileno=each) for each in descriptors]
        if len(sockets) < 2:  # no descriptor was free; the lane sees that its lead is closed
            for each in sockets:
                each.close()
            return bool(word)
        talk, lead = sockets
        shared = Shared()
        try:
            pid = os.fork()
        except OSError as error:
            lead.send(NOT_FORKED + str(error.strerror).encode())
            for ended in (talk, lead, shared):
                ended.close()
            return True
        if not pid:
            self._become(talk, lead, shared)
        talk.close()
        with suppress(ProcessLookupError, PermissionError):  # the child does the same; whoever is first
            os.setpgid(pid, pid)
        self._attempts[lead.fileno()] = _Attempt(pid, lead, shared)
        self._poll.register(lead.fileno(), select.POLLIN)
        return True

    def _become(self, talk: socket.socket, lead: socket.socket, shared: Shared) -> NoReturn:
        code = FAILED
        try:
            os.setpgid(0, 0)
            self._die_with_zygote()
            signal.set_wakeup_fd(-1)
            for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
                signal.signal(signum, signal.SIG_DFL)
            for each in (self._control, lead, *[attempt.lead for attempt in self._attempts.values()]):
                each.close()
            for descriptor in self._at_begin:
                os.close(descriptor)
            self._begin(talk, shared)
            code = 0
        except BaseException as error:
            log.error("the process of an attempt ends", exc_info=error)
        finally:
            os._exit(code)

    def _die_with_zygote(self) -> None:
        """Where the kernel can do that; macOS cannot."""
        if hasattr(self._library, "prctl"):
            self._library.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != self._pid:
            os._exit(FAILED)


def _pass(signum: int, frame: FrameType | None) -> None:
    """A handler, because what is ignored stays ignored in programs."""
