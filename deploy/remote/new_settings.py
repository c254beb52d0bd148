"""Prints the names of the settings in /etc/default/sandbox that the running service does not have, or has otherwise,
one a line: it takes them at a restart. Changes nothing."""

import os
import re
import subprocess
import sys
from pathlib import Path

OURS = re.compile(r"(SANDBOX|REDIS|STATSD|GRAPHITE|SENTRY)_")
READ = "set -a; . /etc/default/sandbox; exec /usr/bin/env -0"
OF_THE_SHELL = {"PWD", "SHLVL", "_"}
NEVER_SET = {"SANDBOX_RESTART"}  # how a take-over goes on


def variables(text: bytes) -> dict[str, str]:
    pairs = (item.decode(errors="replace").partition("=") for item in text.split(b"\0") if item)
    return {name: value for name, _, value in pairs}


def supervisor() -> str:
    """The service's user may put there what he likes: no link is followed, and no pipe waited for."""
    descriptor = os.open("/run/sandbox/sandbox.pid", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        pid = os.read(descriptor, 20).strip()
    finally:
        os.close(descriptor)
    return pid.decode() if pid.isdigit() else sys.exit("/run/sandbox/sandbox.pid holds no number of a process")


def main() -> None:
    has = variables(Path("/proc", supervisor(), "environ").read_bytes())
    wanted = variables(subprocess.run(["/bin/bash", "-c", READ], env={}, capture_output=True, check=True).stdout)
    names = {name for name in has if OURS.match(name)} - NEVER_SET | set(wanted) - OF_THE_SHELL
    print("\n".join(name for name in sorted(names) if has.get(name) != wanted.get(name)))


main()
