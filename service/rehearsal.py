"""A rehearsal of the code that is on the disk now: do its task types load? In a process of its own, so that none of it
runs in this one."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final

from service.errors import ReleaseBroken

LIMIT_SECONDS: Final = 60.0
LOOK_SECONDS: Final = 0.05


def types(
    environment: Mapping[str, str],
    given_up: Callable[[], bool] = lambda: False,
    *,
    python: str = sys.executable,
    folder: Path | None = None,
) -> str:
    """What `sandbox types` prints; raises ReleaseBroken if it fails, or takes too long, or is not waited for."""
    with TemporaryFile() as output, TemporaryFile() as errors:
        words = [python, "-m", "service.cli", "types"]
        process = subprocess.Popen(
            words, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=errors
        )
        try:
            _wait(process, given_up)
        finally:
            process.kill()
            process.wait()
        if process.returncode:
            raise ReleaseBroken(_last_line(errors.fileno()) or f"exit code {process.returncode}")
        return _read(output.fileno())


def _wait(process: "subprocess.Popen[bytes]", given_up: Callable[[], bool]) -> None:
    until = time.monotonic() + LIMIT_SECONDS
    while process.poll() is None:
        if given_up():
            raise ReleaseBroken("the rehearsal was given up")
        if time.monotonic() > until:
            raise ReleaseBroken(f"they did not load within {LIMIT_SECONDS:g} s")
        time.sleep(LOOK_SECONDS)


def _last_line(descriptor: int) -> str:
    *_, line = _read(descriptor).strip().splitlines() or [""]
    return line.removeprefix("sandbox: ")


def _read(descriptor: int) -> str:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode(errors="replace")
