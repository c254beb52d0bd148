"""What a result is of: the machine, the revision; and its section of README.md."""

import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Final, NamedTuple

HERE: Final = Path(__file__).absolute().parent


def described() -> str:
    load = ", ".join(f"{number:.2f}" for number in os.getloadavg())
    return (
        f"{time.strftime('%Y-%m-%d')}, {_revision()}: {os.cpu_count()} cores of {_processor()}, "
        f"Linux {platform.release()}, Python {platform.python_version()}; load at the start {load}."
    )


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _revision() -> str:
    words = ["git", "-C", str(HERE), "describe", "--always", "--dirty"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return f"revision {done.stdout.strip()}" if done.returncode == 0 else "no repository"


class Section(NamedTuple):
    """A part of a page, between two comments."""

    page: Path
    title: str

    def write(self, text: str) -> None:
        begin, end = f"<!-- {self.title} -->", f"<!-- end of {self.title.partition(':')[0]} -->"
        before, _, rest = self.page.read_text().partition(begin)
        _, _, after = rest.partition(end)
        self.page.write_text(f"{before}{begin}\n\n{text}\n{end}{after}")
