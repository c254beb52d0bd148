"""A rehearsal of a release: its own `sandbox check`, in another process, so that none of its code runs in this one."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final

from service.errors import ReleaseBroken

LEAST_SECONDS: Final = 60.0
OURS: Final = "sandbox: "  # how a line of the command begins; others are of the task modules


def check(
    environment: Mapping[str, str],
    *,
    patience_seconds: float,
    python: Path = Path(sys.executable),
    folder: Path | None = None,
) -> list[str]:
    """Returns what it warns of; raises ReleaseBroken if it fails, or takes too long."""
    words = [str(python), "-P", "-m", "service.cli", "check"]
    try:
        with TemporaryFile() as said:
            process = subprocess.Popen(
                words,
                env=environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=said,
                process_group=0,
            )
            try:
                code = _ended(process, max(patience_seconds, LEAST_SECONDS))
            finally:
                _end(process)
            lines = os.pread(said.fileno(), os.fstat(said.fileno()).st_size, 0).decode(errors="replace").splitlines()
    except OSError as error:
        raise ReleaseBroken(f"the task types cannot be loaded: {error}") from error
    *before, last = ["", *filter(str.strip, lines)] if code else [*lines, ""]
    warnings = [line for line in before if line.startswith(OURS)]
    if code:
        raise ReleaseBroken("\n".join([last.removeprefix(OURS) or f"exit code {code}", *warnings]))
    return warnings


def _ended(process: "subprocess.Popen[bytes]", seconds: float) -> int:
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        raise ReleaseBroken(f"the task types did not load within {seconds:g} s") from None


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Kills it, and all that its modules have started in its group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
