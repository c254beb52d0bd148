"""How long a start takes when the service has run before, until it is ready and its runners wait for tasks; and how
long a command of a client takes, from its start to its end.
"""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench import servers
from bench.processes import environment, eventually
from bench.rounds import Plan
from bench.servers import SANDBOX
from bench.table import MILLISECONDS, SECONDS, Row

TASKS: Final = 10_000  # of yesterday
COMMANDS: Final = 10  # a sample is the quickest of so many: a command is short
COMMAND_BAR: Final = 150.0


def measure(plan: Plan) -> Iterator[Row]:
    with servers.folder() as home:
        with servers.started_in(home) as service:
            service.create(TASKS)
            eventually(lambda: service.count() == TASKS)
            uid = _new(service.url)
            samples = {words: [_command(service.url, words) for _ in range(plan.rounds)] for words in _words(uid)}
        seconds = [_start(home) for _ in range(plan.rounds)]
    for words, milliseconds in samples.items():
        yield Row(" ".join(("sandbox", *words)).replace(uid, "UID"), MILLISECONDS, milliseconds, bar=COMMAND_BAR)
    yield Row(f"a second start, with {TASKS:,} tasks there", SECONDS, seconds, bar=5.0)


def _start(home: Path) -> float:
    begun = time.monotonic()
    with servers.started_in(home):
        return time.monotonic() - begun


def _words(uid: str) -> list[tuple[str, ...]]:
    return [("--help",), ("task", "get", uid)]


def _new(url: str) -> str:
    return _run(url, ("task", "create", "echo")).strip()


def _command(url: str, words: tuple[str, ...]) -> float:
    def once() -> float:
        begun = time.monotonic()
        _run(url, words)
        return 1000 * (time.monotonic() - begun)

    return min(once() for _ in range(COMMANDS))


def _run(url: str, words: tuple[str, ...]) -> str:
    own = environment(SANDBOX_URL=url.removesuffix("/tasks"))
    return subprocess.run((SANDBOX, *words), env=own, capture_output=True, text=True, check=True).stdout
