"""What a browser reaches: the process, its address, and whether it answers; and who may work on the files."""

import re
import socket
import time
from typing import Final

from service.workspaces.record import DONE
from service.workspaces.steps.step import BuildStep
from service.workspaces.work import StepFailed, Work

HEALTH_SECONDS = 60.0
LOOK_SECONDS = 0.2
ANSWER_SECONDS = 10.0
HEAD_BYTES: Final = 64 * 1024
REQUEST: Final = "GET / HTTP/1.1\r\nHost: {host}\r\nUser-Agent: sandbox-health\r\nConnection: close\r\n\r\n"
STATUS: Final = re.compile(rb"^HTTP/1\.[01] ([2-9][0-9]{2})", re.MULTILINE)
SAME_PID_SECONDS = 1.0
ACTIVE = "active"


class Access(BuildStep):
    name = "access"

    def check(self, work: Work) -> bool:
        return not work.record.logins or work.record.steps.get(self.name) == DONE

    def apply(self, work: Work) -> None:
        for login in work.record.logins:
            work.hands.grant(work.slug, login)

    def verify(self, work: Work) -> None:
        """The hands have said so."""

    def undo(self, work: Work) -> None:
        for login in list(work.record.logins):
            work.hands.revoke(work.slug, login)
            work.record.logins.remove(login)


class WebProcess(BuildStep):
    name = "process"

    def check(self, work: Work) -> bool:
        service = work.hands.status(work.slug)
        return service.state == ACTIVE and service.pid > 0

    def apply(self, work: Work) -> None:
        work.hands.start(work.slug, work.record.port or 0)

    def verify(self, work: Work) -> None:
        """Whether it stays is seen by its answer."""
        if work.hands.status(work.slug).state != ACTIVE:
            raise StepFailed("the web process is not started after it was told to")

    def undo(self, work: Work) -> None:
        work.hands.stop(work.slug)
        work.hands.kill(work.slug)


class Address(BuildStep):
    name = "address"

    def check(self, work: Work) -> bool:
        return work.record.address == self._address(work)

    def apply(self, work: Work) -> None:
        work.record.address = self._address(work)

    def _address(self, work: Work) -> str:
        return work.plan.site.address(work.slug, work.record.port or 0)

    def undo(self, work: Work) -> None:
        work.record.address = None


class Health(BuildStep):
    """An answer to HTTP, and the same process twice: a supervisor calls active what crashes again and again."""

    name = "health"

    def check(self, work: Work) -> bool:
        return self._problem(work) == ""

    def apply(self, work: Work) -> None:
        until = time.monotonic() + HEALTH_SECONDS
        while problem := self._problem(work):
            if time.monotonic() > until:
                log = work.hands.web_log(work.slug)
                raise StepFailed(f"{problem}\n{log}" if log else problem)
            time.sleep(LOOK_SECONDS)

    def verify(self, work: Work) -> None:
        """It has just answered."""

    def _problem(self, work: Work) -> str:
        before = work.hands.status(work.slug).pid
        if not before:
            return "the web process does not run"
        if problem := unanswered(work):
            return problem
        time.sleep(SAME_PID_SECONDS)
        after = work.hands.status(work.slug).pid
        return "" if before == after else "the web process ends again and again"


def unanswered(work: Work) -> str:
    """Why it does not answer; an empty text if it does. Whatever it sends, this ends in time."""
    host = work.plan.site.hosts(work.slug)[0]
    try:
        with _connected(work) as connection:
            status = _status(connection, host)
    except OSError as error:
        return f"the web process does not answer: {error or type(error).__name__}"
    return f"the web process answers {status}" if status >= 500 else ""


def _status(connection: socket.socket, host: str) -> int:
    """The first one that is no interim one."""
    until = time.monotonic() + ANSWER_SECONDS
    connection.sendall(REQUEST.format(host=host).encode())
    received = b""
    while not (found := STATUS.search(received)):
        if len(received) > HEAD_BYTES:
            raise OSError("what it sends has no status")
        if (left := until - time.monotonic()) <= 0:
            raise TimeoutError("timed out")
        connection.settimeout(left)
        more = connection.recv(4096)
        if not more:
            raise ConnectionError("it hangs up without an answer")
        received += more
    return int(found[1])


def _connected(work: Work) -> socket.socket:
    if work.plan.site.by_port:
        return socket.create_connection(("127.0.0.1", work.record.port or 0), ANSWER_SECONDS)
    made = socket.socket(socket.AF_UNIX)
    try:
        made.settimeout(ANSWER_SECONDS)
        made.connect(str(work.plan.places.socket(work.slug)))
    except OSError:
        made.close()
        raise
    return made
