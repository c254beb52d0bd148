"""An action on a workspace, in a process that is killed at a point of it.

    python -m tests.workspaces.victim FOLDER PORT ACTION ARGUMENTS POINT

A point is a verb of the hands or of the mirror, or a step that is run, and when: before:clone, within:venv,
after:start.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from service.workspaces.hands import Ended
from tests.workspaces.yard import Yard, do

WITHIN_SECONDS = 0.1


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


class Deadly:
    """Does what it is asked for, and kills this process at one point."""

    def __init__(self, real: Any, point: str, kill: Callable[[], None] = die) -> None:
        self._real = real
        self._kill = kill
        self._when, _, self._what = point.partition(":")

    def __getattr__(self, verb: str) -> Any:
        found = getattr(self._real, verb)
        if callable(found) and verb == self._what:
            return lambda *words, **named: self._do(lambda: found(*words, **named))
        return found

    def run(self, speaker: Any, slug: str, step: str, *arguments: Any, **named: Any) -> Ended:
        def done() -> Ended:
            return self._real.run(speaker, slug, step, *arguments, **named)

        return self._do(done) if step == self._what else done()

    def _do(self, act: Callable[[], Any]) -> Any:
        if self._when == "before":
            self._kill()
        if self._when == "within":
            threading.Timer(WITHIN_SECONDS, self._kill).start()
        done = act()
        self._kill()
        return done


def main() -> None:
    folder, port, action, arguments, point = sys.argv[1:]
    yard = Yard(Path(folder), port=int(port))
    mirror = Deadly(yard.plan.mirror, point)
    plan = yard.planned(lambda hands: Deadly(hands, point), mirror=mirror)
    outcome = do(plan, action, **json.loads(arguments))
    print(outcome)


if __name__ == "__main__":
    main()
