"""An attempt, in the process that was forked for it. What the handler says goes to the runner at once; at the end goes
the outcome: a transition, pickled. The runner trusts it as it trusts a handler in its own process.

An interruption comes by a signal, as to a lane in the main thread. It must not cut a frame: while one is sent it waits.
"""

import faulthandler
import logging
import pickle
import signal
import socket
import sys
import threading
from _thread import get_ident
from collections.abc import Callable, Sequence
from functools import partial
from types import FrameType
from typing import Any, Final, TypeVar

import msgspec

from service.observe import log_file
from service.observe.sentry import Errors
from service.runner import attempt, programs
from service.runner.frames import CHUNK, CREATE, LINE, NEWS, OUTCOME, REPORT, Frames, frame
from service.runner.hearing import Hearing
from service.runner.shared import Shared
from service.runner.window import MAIN_THREAD, Window
from service.runner.zygote import SIGNAL
from service.tasks.context import Child, Context
from service.tasks.document import Task, decode
from service.tasks.lines import LINE_LIMIT, MARGIN
from service.tasks.registry import Registry

Answer = TypeVar("Answer")

encode_line: Final = msgspec.json.Encoder().encode
decode_line: Final = msgspec.json.Decoder(tuple[str, str]).decode


def run(talk: socket.socket, shared: Shared, registry: Registry, errors: Errors) -> None:
    log_file.caretaker.look()  # the files may have been moved since the zygote began
    faulthandler.enable(talk.fileno())
    programs.keep_groups_in(shared)
    task = decode(_received(talk))
    task_type = registry.get(task.type)
    assert task_type is not None  # the runner has the same
    window = _Window(shared)
    runner = _Runner(talk, window)
    errors.relay(lambda report: runner.tell(REPORT, pickle.dumps(report)))
    errors.begin()
    logging.getLogger().addHandler(Hearing())
    context = window.context = _Context(task, runner, window)
    signal.signal(SIGNAL, runner.heed)
    transition = attempt.run(task_type, context, task, window, errors)
    runner.tell(OUTCOME, pickle.dumps((transition, context.pushed_back)))
    for stream in (sys.stdout, sys.stderr):
        stream.flush()


def _received(talk: socket.socket) -> bytes:
    """What the runner sends: the task's document, then an answer at a time."""
    frames = Frames()
    while chunk := talk.recv(CHUNK):
        for _, content in frames.cut(chunk):
            return content
    raise EOFError("the runner has gone")


class _Window(Window):
    __slots__ = ("_shared", "context")

    def __init__(self, shared: Shared) -> None:
        super().__init__()
        self._shared = shared
        self.context: Context | None = None

    def __enter__(self) -> None:
        super().__enter__()
        self.look()

    def look(self) -> None:
        """Raises what interrupts the attempt, once. In the main thread only."""
        if (reason := self._shared.reason) is not None:
            if self.context is not None:
                self.context.cancelled = True
            self.interrupt(reason)
            self.arrive()


class _Runner:
    """To whom the attempt's process tells all."""

    def __init__(self, talk: socket.socket, window: _Window) -> None:
        self._talk = talk
        self._window = window
        self._lock = threading.Lock()
        self._asking = threading.Lock()
        self._is_telling = False  # in the main thread

    def tell(self, kind: bytes, content: bytes) -> None:
        self._undisturbed(self._tell, kind, content)

    def create(self, context: Context, children: Sequence[Child]) -> list[str]:
        answer = self._undisturbed(self._ask, CREATE, pickle.dumps(list(children)))
        if isinstance(answer, Exception):
            raise answer
        uids: list[str] = answer
        return uids

    def _undisturbed(self, do: Callable[[bytes, bytes], Answer], kind: bytes, content: bytes) -> Answer:
        """An interruption waits until it is done."""
        if get_ident() != MAIN_THREAD:
            return do(kind, content)
        self._is_telling = True
        try:
            answer = do(kind, content)
        finally:
            self._is_telling = False
        self._window.look()
        return answer

    def _ask(self, kind: bytes, content: bytes) -> Any:
        with self._asking:
            self._tell(kind, content)
            return pickle.loads(_received(self._talk))

    def _tell(self, kind: bytes, content: bytes) -> None:
        with self._lock:
            self._talk.sendall(frame(kind, content))

    def heed(self, signum: int, frame: FrameType | None) -> None:
        if not self._is_telling:
            self._window.look()


class _Context(Context):
    __slots__ = ("_runner",)

    def __init__(self, task: Task, runner: _Runner, window: Window) -> None:
        super().__init__(task, partial(programs.run, window), runner.create)
        self._runner = runner

    def progress(self, fraction: float | None = None, message: str = "") -> None:
        super().progress(fraction, message)
        assert self.news is not None
        self._runner.tell(NEWS, bytes(self.news))

    def keep(self, level: str, text: str) -> None:
        shown = self.without_secrets(text)[: LINE_LIMIT + MARGIN]
        self._runner.tell(LINE, encode_line((level, shown.encode("utf-8", "replace").decode())))
