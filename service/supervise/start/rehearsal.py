"""A rehearsal of the code that is on the disk now: do its task types load? In a process of its own, so that none of it
runs in this one."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final

from service.errors import ReleaseBroken

LEAST_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 0.05


def types(
    environment: Mapping[str, str],
    given_up: Callable[[], bool] = lambda: False,
    *,
    patience_seconds: float,
    python: Path = Path(sys.executable),
    folder: Path | None = None,
) -> str:
    """What `sandbox types` prints; raises ReleaseBroken if it fails, or takes too long, or is not waited for."""
    words = [str(python), "-m", "service.cli", "types"]
    try:
        with TemporaryFile() as output, TemporaryFile() as errors:
            process = subprocess.Popen(
                words,
                env=environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                process_group=0,
            )
            try:
                _wait(process, given_up, max(patience_seconds, LEAST_SECONDS))
            finally:
                _end(process)
            if process.returncode:
                raise ReleaseBroken(_last_line(errors.fileno()) or f"exit code {process.returncode}")
            return _read(output.fileno())
    except OSError as error:
        raise ReleaseBroken(f"the task types cannot be loaded: {error}") from error


def _end(process: "subprocess.Popen[bytes]") -> None:
    """With all that its modules have started in its group."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _wait(process: "subprocess.Popen[bytes]", given_up: Callable[[], bool], seconds: float) -> None:
    until = time.monotonic() + seconds
    while process.poll() is None:
        if given_up():
            raise ReleaseBroken("the rehearsal was given up")
        if time.monotonic() > until:
            raise ReleaseBroken(f"the task types did not load within {seconds:g} s")
        time.sleep(LOOK_SECONDS)


def _last_line(descriptor: int) -> str:
    *_, line = _read(descriptor).strip().splitlines() or [""]
    return line.removeprefix("sandbox: ")


def _read(descriptor: int) -> str:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode(errors="replace")
