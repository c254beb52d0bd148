"""HUP to a process of a watcher wishes a reload of the watcher: only the supervisor can swap in a release safely."""

import logging
import os
import subprocess
import sys

SUPERVISOR = "CIRCUSCTL_ENDPOINT"


def tell(watcher: str, log: logging.Logger) -> None:
    """Asks the supervisor, and waits for nothing; what it refuses is printed."""
    if SUPERVISOR not in os.environ:
        log.warning("HUP is ignored: this process has no supervisor that could reload %s", watcher)
        return
    log.info("HUP: asking the supervisor for a reload of %s", watcher)
    words = [sys.executable, "-P", "-m", "circus.circusctl", "reload", watcher]
    subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
