"""An attempt in a process of its own, as its lane sees it: the lane follows it, and nothing of it stays.

An interruption is raised in the handler first, as anywhere. What has not ended two seconds later is killed.

A crash of such a process hurts no runner. So it is a failure like any other: it is charged as one, and the next attempt
comes after the usual pause, if attempts are left.
"""

import logging
import pickle
import select
import signal
import time
from contextlib import suppress
from functools import partial
from typing import Final

import msgspec

from service.observe import logs
from service.observe.output import signal_name
from service.observe.sentry import Errors
from service.runner import attempt, outcomes
from service.runner.forked import decode_line
from service.runner.frames import ANSWER, CHUNK, CREATE, LINE, NEWS, OUTCOME, REPORT, TASK, Frames, frame
from service.runner.leash import KILL_SECONDS, Leash
from service.runner.outcomes import Crashed, Transition
from service.runner.zygote import LONGEST_WORD, NOT_FORKED, Fork, Zygote
from service.tasks.context import Child, Context
from service.tasks.declare import TaskType
from service.tasks.document import Task, encode

LOOK_SECONDS: Final = 0.1
PATIENCE_SECONDS: Final = 2.0  # from the interruption to the kill

log = logging.getLogger(logs.OF_ONE_TASK)


def run(zygote: Zygote, task_type: TaskType, context: Context, task: Task, leash: Leash, errors: Errors) -> Transition:
    """As attempt.run. Raises ZygoteGone if nothing can be forked any more."""
    return attempt.about(task_type, context, task, partial(_run, zygote, context, task, leash, errors))


def _run(zygote: Zygote, context: Context, task: Task, leash: Leash, errors: Errors) -> Transition:
    with zygote.fork() as child:
        started, begun = time.time(), time.perf_counter()
        leash.holds(child)
        following = _Following(child, context, errors)
        with leash:
            following.follow(task, leash)
        if following.outcome is not None:
            return following.outcome
        error = following.why(leash)
        transition = attempt.failed(error, task, started, time.perf_counter() - begun, errors)
    return outcomes.with_news(transition, context.news)


class _Following:
    def __init__(self, child: Fork, context: Context, errors: Errors) -> None:
        self.outcome: Transition | None = None
        self._child = child
        self._context = context
        self._errors = errors
        self._frames = Frames()
        self._end: bytes | None = None  # as the zygote tells it
        self._is_garbled = False

    def follow(self, task: Task, leash: Leash) -> None:
        """Until the process has ended, or cannot be ended."""
        with suppress(OSError):  # it has ended already; why, tells the zygote
            self._child.talk.sendall(frame(TASK, encode(task)))
        poll = select.poll()
        for each in (self._child.talk, self._child.lead):
            poll.register(each, select.POLLIN)
        killed_at = None
        while self._end is None:
            ready = {descriptor for descriptor, _ in poll.poll(LOOK_SECONDS * 1000)}
            if self._child.talk.fileno() in ready and not self._hear():
                poll.unregister(self._child.talk)
            if self._child.lead.fileno() in ready:
                self._end = self._last_word()
            now = time.monotonic()
            if killed_at is None and now > leash.interrupted_at + PATIENCE_SECONDS:
                killed_at = now
                self._child.kill()
            if killed_at is not None and now > killed_at + KILL_SECONDS:
                log.error("the process of the attempt does not end, though it was killed")
                return
        self._hear_the_rest()

    def _last_word(self) -> bytes:
        """Empty when the zygote has died, and the attempt with it."""
        try:
            return self._child.lead.recv(LONGEST_WORD)
        except OSError:
            return b""

    def _hear(self) -> bool:
        try:
            chunk = self._child.talk.recv(CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            chunk = b""
        for kind, content in self._frames.cut(chunk):
            try:
                self._note(kind, content)
            except Exception as error:  # the handler has written into descriptors that are not its own
                log.warning("what the attempt's process says cannot be read: %r", error)
                self._is_garbled = True
                self._child.kill()
        return bool(chunk)

    def _hear_the_rest(self) -> None:
        """What the process has left behind may hold the socket open."""
        self._child.talk.setblocking(False)
        while self._hear():
            pass

    def _note(self, kind: bytes, content: bytes) -> None:
        if kind == LINE:
            self._context.keep(*decode_line(content))
        elif kind == NEWS:
            self._context.news = msgspec.Raw(content)
        elif kind == REPORT:
            self._errors.relayed(pickle.loads(content))
        elif kind == OUTCOME:
            self.outcome, self._context.pushed_back = pickle.loads(content)
        elif kind == CREATE:
            self._create(pickle.loads(content))

    def _create(self, children: list[Child]) -> None:
        answer: list[str] | Exception
        try:
            answer = self._context.created(children)
        except Exception as error:
            answer = error
        with suppress(OSError):  # it has ended meanwhile
            self._child.talk.sendall(frame(ANSWER, pickle.dumps(answer)))

    def why(self, leash: Leash) -> BaseException:
        """Of an end without an outcome."""
        if leash.reason is not None:
            log.warning("the attempt did not end within %g s: its process was killed", PATIENCE_SECONDS)
            return leash.reason()
        error = Crashed("what its process said cannot be read" if self._is_garbled else _told(self._end or b""))
        if stacks := self._frames.stacks:
            error.add_note(stacks)
        return error


def _told(end: bytes) -> str:
    if end.startswith(NOT_FORKED):
        return f"no process could be forked for the attempt: {end[1:].decode(errors='replace')}"
    if not end:
        return "the attempt's process has ended with the one that forked it"
    code = int(end)
    if code >= 0:
        return f"the attempt's process ended with exit code {code} before its handler did"
    hint = ", as the kernel does when memory runs out" if -code == signal.SIGKILL else ""
    return f"the attempt's process was ended by {signal_name(-code)}{hint}"
