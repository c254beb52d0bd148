"""Real runner processes for the tests."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from service.store import Store, streams
from service.tasks import moments
from service.tasks.document import QUEUED, SCHEDULED, Task
from service.tasks.uid import random_prefix
from tests.servers import eventually

SHOWN_LINES = 40


class Crew:
    def __init__(self, home: Path, redis_url: str, store: Store) -> None:
        self.home = home
        self.store = store
        self._url = redis_url
        self.runners: list[subprocess.Popen[bytes]] = []

    def start(self, count: int = 1, **settings: Any) -> list[subprocess.Popen[bytes]]:
        environment = {
            **os.environ,
            "SANDBOX_HOME": str(self.home),
            "REDIS_URL": self._url,
            "SANDBOX_TASKS": "service.builtin.demo,tests.runner.handlers",
            **{f"SANDBOX_{name.upper()}": str(value) for name, value in settings.items()},
        }
        started = [
            subprocess.Popen([sys.executable, "-m", "service.cli", "runner"], env=environment) for _ in range(count)
        ]
        self.runners += started
        return started

    def kill_all(self) -> None:
        for runner in self.runners:
            runner.kill()
            runner.wait()

    def new(self, type: str, *, count: int = 1, run_at: str | None = None, **fields: Any) -> list[Task]:
        args = msgspec.Raw(json.dumps(fields.pop("args", {})).encode())
        queue = fields.pop("queue", "default")
        now = time.time()
        return [
            Task(
                uid=self.store.uid(random_prefix()),
                type=type,
                queue=queue,
                status=SCHEDULED if run_at else QUEUED,
                created_at=moments.stamp(now + place / 1e6),
                args=args,
                run_at=run_at,
                **fields,
            )
            for place in range(count)
        ]

    def create(self, type: str, **fields: Any) -> list[str]:
        return self.store_all(self.new(type, **fields))

    def store_all(self, new: list[Task]) -> list[str]:
        self.store.create(new)
        return [task.uid for task in new]

    def read(self, uid: str) -> Task:
        found = self.store.read(uid)
        assert found is not None
        return found.task

    def finished(self, uid: str, seconds: float = 10.0) -> Task:
        """If it is not, the failure shows the document and the end of the log."""
        try:
            return eventually(lambda: task if (task := self.read(uid)).finished else None, seconds)  # type: ignore[no-any-return]
        except AssertionError as error:
            error.add_note("\n".join(map(str, [self.read(uid), *self.log()[-SHOWN_LINES:]])))
            raise

    def running(self, uid: str, seconds: float = 10.0) -> Task:
        """Returns it when the runner has published that it has started."""
        return eventually(lambda: task if (task := self.read(uid)).started_at else None, seconds)  # type: ignore[no-any-return]

    def log(self) -> list[dict[str, Any]]:
        path = self.home / "log" / "runner.log"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def stop(self, runner: "subprocess.Popen[bytes]", seconds: float = 10.0) -> int:
        runner.send_signal(signal.SIGTERM)
        return runner.wait(seconds)

    def nothing_left(self) -> bool:
        """No entry, no pending claim, no due time, no consumer's debt."""
        wire = self.store._wire
        for stream in streams(0, ["default"]):
            [length] = wire.call(0, ("XLEN", stream))
            if length:
                return False
        return wire.call(0, ("ZCARD", "sandbox:{0}:due")) == [0]
