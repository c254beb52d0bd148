"""Prints the names of the settings in /etc/default/sandbox that the running service does not have, or has otherwise,
one a line: it takes them at a restart. Changes nothing."""

import os
import re
import subprocess
from pathlib import Path

SETTING = re.compile(r"(SANDBOX|REDIS|STATSD|GRAPHITE|SENTRY)_")
READ = "set -a; . /etc/default/sandbox; exec env -0"


def settings(text: bytes) -> dict[str, str]:
    pairs = (item.decode(errors="replace").partition("=") for item in text.split(b"\0"))
    return {name: value for name, _, value in pairs if SETTING.match(name) and name != "SANDBOX_RESTART"}


def main() -> None:
    pid = Path("/run/sandbox/sandbox.pid").read_text().strip()
    has = settings(Path("/proc", pid, "environ").read_bytes())
    environment = {"PATH": os.environ["PATH"]}
    wanted = settings(subprocess.run(["bash", "-c", READ], env=environment, capture_output=True, check=True).stdout)
    print("\n".join(name for name in sorted(has | wanted) if has.get(name) != wanted.get(name)))


main()
