"""Programs that root calls: without input, with an environment of their own, and with no word from a stranger."""

import subprocess
from typing import Final

OUTER: Final = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}


def call(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        env=OUTER,
        cwd="/",
        check=False,
    )
