"""Runs a program for a handler. What it prints becomes lines of the task's log.

The program gets a process group of its own, in the runner's session. When the attempt is interrupted, the group is
ended: first by TERM, then by KILL. What the program leaves in its group when it ends by itself is killed, too.

No call blocks for longer than a moment: in a lane that is a thread, an interruption arrives between two of them. While
a program starts, and while its group is ended, interruptions are held off: no program runs that nobody knows of.
"""

import codecs
import os
import select
import signal
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any, Final, Protocol

from service.observe import scrubber
from service.tasks.context import Context, Word
from service.tasks.lines import INFO, LINE_LIMIT, MARGIN

LOOK_SECONDS: Final = 0.05
SHORTEST_SECONDS: Final = 0.001
TERM_SECONDS: Final = 0.5  # of the two seconds that a handler has to end
REST_SECONDS: Final = 0.5  # for what a process outside the group may go on to print
CHUNK: Final = 64 * 1024
LAST_CHUNKS: Final = 4
OUTPUT_LIMIT: Final = 256 * 1024
OURS: Final = {
    "stdout", "stderr", "capture_output", "text", "encoding", "errors", "universal_newlines", "bufsize", "shell",
    "process_group", "start_new_session",
}  # fmt: skip
HEAD: Final = 64  # by so many characters the beginning of a long secret is recognised
KEY: Final = "PRIVATE KEY-----"


class Interruptions(Protocol):
    """Of the attempt, as its window lets them come."""

    groups: set[int]  # of its programs
    is_over: bool

    def hold_off(self) -> None: ...
    def let_go(self) -> None: ...


class Groups(Protocol):
    """Process groups of programs that run."""

    def add(self, group: int, /) -> None: ...
    def discard(self, group: int, /) -> None: ...


_own: Final[set[int]] = set()
_groups: Groups = _own


def run(
    window: Interruptions,
    context: Context,
    command: Sequence[Word],
    *,
    check: bool = False,
    timeout: float | None = None,
    input: str | bytes | None = None,
    **options: Any,
) -> "subprocess.CompletedProcess[str]":
    """As subprocess.run, but for where the output goes."""
    _check(command, options)
    output = _Output(context)
    with _stdin(input, options.pop("stdin", None)) as stdin:
        process = _followed(window, output, timeout, command, stdin=stdin, **options)
    done = subprocess.CompletedProcess(process.args, process.returncode, output.end, None)
    if check:
        done.check_returncode()
    return done


def keep_groups_in(groups: Groups) -> None:
    """Where somebody else sees them, who ends them when this process has died."""
    global _groups
    _groups = groups


def end_left(window: Interruptions) -> None:
    """The attempt is over: what its own threads still run ends, too."""
    window.is_over = True
    for group in list(window.groups):
        _signal(group, signal.SIGKILL)


def end_all() -> None:
    """The runner ends: no program outlives it."""
    for group in list(_own):
        _signal(group, signal.SIGKILL)


def _check(command: object, options: Mapping[str, Any]) -> None:
    if isinstance(command, str | bytes):
        raise TypeError("context.run takes a list of words, as in ['make', 'all']")
    if wrong := sorted(OURS.intersection(options)):
        raise TypeError(f"context.run reads the output itself, as text, in a group of its own: leave out {wrong[0]}")


@contextmanager
def _stdin(input: str | bytes | None, stdin: Any) -> Iterator[Any]:
    """The runner's own standard input is no program's."""
    if input is None:
        yield subprocess.DEVNULL if stdin is None else stdin
        return
    if stdin is not None:
        raise ValueError("stdin and input may not both be used")
    with tempfile.TemporaryFile() as file:
        file.write(input.encode() if isinstance(input, str) else input)
        file.seek(0)
        yield file


def _followed(
    window: Interruptions, output: "_Output", timeout: float | None, command: Sequence[Word], **options: Any
) -> "subprocess.Popen[bytes]":
    """A program that has ended. Only while it is followed may an interruption come, and it comes once."""
    try:
        window.hold_off()
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0, process_group=0, **options
        )
        try:
            _groups.add(process.pid)
            window.groups.add(process.pid)
            if window.is_over:  # looked at after the group is known, so that none is missed
                raise RuntimeError("the attempt is over: it starts no program any more")
            window.let_go()
            _follow(process, output, timeout)
        finally:
            try:
                window.hold_off()
            finally:
                window.groups.discard(process.pid)
                _end(process)
                output.close(process.stdout)
    finally:
        window.let_go()
    return process


def _follow(process: "subprocess.Popen[bytes]", output: "_Output", timeout: float | None) -> None:
    """Until the program has ended, and what it has printed is read."""
    assert process.stdout is not None
    begun, ended_at, nap = time.monotonic(), None, SHORTEST_SECONDS
    poll = select.poll()
    poll.register(process.stdout, select.POLLIN)
    is_open = True
    while True:
        is_ready = is_open and bool(poll.poll(LOOK_SECONDS * 1000))
        if is_ready:
            is_open = output.read(process.stdout)
        now = time.monotonic()
        if timeout is not None and now - begun > timeout:
            raise subprocess.TimeoutExpired(process.args, timeout, output.end.encode())
        if ended_at is None and _has_ended(process):
            ended_at = now
        if ended_at is not None and (not is_ready or not is_open or now - ended_at > REST_SECONDS):
            return
        if not is_open:
            time.sleep(nap)
            nap = min(2 * nap, LOOK_SECONDS)


def _has_ended(process: "subprocess.Popen[bytes]") -> bool:
    """It is left to be reaped where that is possible: so long its number is nobody else's."""
    if not hasattr(os, "waitid"):
        return process.poll() is not None
    with suppress(ChildProcessError):  # somebody else has reaped it
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    return True


def _end(process: "subprocess.Popen[bytes]") -> None:
    if not _has_ended(process):
        _signal(process.pid, signal.SIGTERM)
        until = time.monotonic() + TERM_SECONDS
        while not _has_ended(process) and time.monotonic() < until:
            time.sleep(LOOK_SECONDS / 5)
    _signal(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):  # the kernel may hold it for a while
        process.wait(TERM_SECONDS)
    _groups.discard(process.pid)


def _signal(group: int, signum: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signum)


class _Output:
    """What a program prints: as lines for the log, and its end as one text."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._decode = codecs.getincrementaldecoder("utf-8")("replace").decode
        self._line = ""
        self._in_key = False
        self._texts: deque[str] = deque()
        self._length = 0

    @property
    def end(self) -> str:
        return "".join(self._texts)[-OUTPUT_LIMIT:]

    def read(self, source: IO[bytes]) -> bool:
        """False at the end of the output."""
        chunk = os.read(source.fileno(), CHUNK)
        self._add(self._decode(chunk))
        return bool(chunk)

    def close(self, source: IO[bytes] | None) -> None:
        """With what was printed last, and what stands behind the last line."""
        assert source is not None
        poll = select.poll()
        poll.register(source, select.POLLIN)
        with source:
            for _ in range(LAST_CHUNKS):
                if not poll.poll(0) or not self.read(source):
                    break
        self._add(self._decode(b"", True))
        if self._line:
            self._say(self._line)
            self._line = ""

    def _add(self, text: str) -> None:
        self._texts.append(text)
        self._length += len(text)
        while self._length - len(self._texts[0]) >= OUTPUT_LIMIT:
            self._length -= len(self._texts.popleft())
        *lines, rest = (self._line + text).split("\n")
        for line in lines:
            self._say(line)
        written_over = rest.rfind("\r", 0, len(rest.rstrip("\r"))) + 1
        self._line = rest[written_over:][: LINE_LIMIT + MARGIN]

    def _say(self, line: str) -> None:
        """What a terminal would show of the line; of a private key, not the lines in between either."""
        shown = line.rstrip("\r").rpartition("\r")[2]
        if self._in_key or KEY in shown:
            self._in_key = "-----END" not in shown and (self._in_key or "-----BEGIN" in shown)
            shown = scrubber.REMOVED
        shown = self._context.without_secrets(shown)
        for each in self._context.secrets:  # a long one may be cut with its line
            if len(each) > MARGIN:
                before, head, _ = shown.partition(each[:HEAD])
                shown = before + scrubber.REMOVED if head else shown
        self._context.keep(INFO, shown)
