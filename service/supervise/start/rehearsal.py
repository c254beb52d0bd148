"""A rehearsal of a release: its own `sandbox check`, in another process, so that none of its code runs in this one."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final, NamedTuple

from service.errors import ReleaseBroken
from service.observe.output import signal_name

LEAST_SECONDS: Final = 60.0
OURS: Final = "sandbox: "  # how a line of the command begins; others are of the task modules
MARK: Final = "sandbox: loads "
WELL: Final = "all is well"
LAST_LINES: Final = 3


class Said(NamedTuple):
    """What the command has printed."""

    before: list[str]
    module: str  # the one that it loaded last; empty if it came to none, or is of a release that does not tell
    since: list[str]

    @property
    def warnings(self) -> list[str]:
        return [line for line in (*self.before, *self.since) if line.startswith(OURS)]


def mark(module: str) -> None:
    """For the command: which module it loads now."""
    print(f"\n{MARK}{module}", file=sys.__stdout__, flush=True)


def check(
    environment: Mapping[str, str],
    *,
    patience_seconds: float,
    python: Path = Path(sys.executable),
    folder: Path | None = None,
) -> list[str]:
    """Returns what it warns of, and its last word. Raises ReleaseBroken if it fails, or takes too long."""
    words = [str(python), "-P", "-m", "service.cli", "check"]
    seconds = max(patience_seconds, LEAST_SECONDS)
    try:
        with TemporaryFile() as output:
            process = subprocess.Popen(
                words,
                env=environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                process_group=0,
            )
            try:
                code = _ended(process, seconds)
            finally:
                _end(process)
            said = _said(os.pread(output.fileno(), os.fstat(output.fileno()).st_size, 0).decode(errors="replace"))
    except OSError as error:
        raise ReleaseBroken(f"the task types cannot be loaded: {error}") from error
    if code is None:
        raise ReleaseBroken(f"{said.module or 'the task types'} did not load within {seconds:g} s{_last(said.since)}")
    last_word = next((line for line in reversed(said.since) if WELL in line), "")
    if code == 0 and (last_word or not said.module):
        return [*said.warnings, last_word]
    raise ReleaseBroken(_failure(code, said))


def _said(text: str) -> Said:
    lines = [line for line in text.splitlines() if line.strip()]
    at = max((place for place, line in enumerate(lines) if line.startswith(MARK)), default=-1)
    before = [line for line in lines[: max(at, 0)] if not line.startswith(MARK)]
    return Said(before, lines[at].removeprefix(MARK) if at >= 0 else "", lines[at + 1 :])


def _failure(code: int, said: Said) -> str:
    errors = [line for line in said.since if line.startswith(OURS)] if code == 1 else []
    if errors:
        why = errors[-1].removeprefix(OURS)
    elif said.module:
        why = f"{said.module} ended the process that loaded it: {_end_of(code)}{_last(said.since)}"
    else:
        why = said.since[-1] if said.since else _end_of(code)
    return "\n".join([why, *(line for line in said.warnings if line not in errors[-1:])])


def _end_of(code: int) -> str:
    return f"exit code {code}" if code >= 0 else f"killed by {signal_name(-code)}"


def _last(lines: list[str]) -> str:
    return "; it printed last: " + " | ".join(lines[-LAST_LINES:]) if lines else ""


def _ended(process: "subprocess.Popen[bytes]", seconds: float) -> int | None:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Kills it, and all that its modules have started in its group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
