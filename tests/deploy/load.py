"""Clients that create tasks while a host is deployed to."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tests.deploy.world import World
from tests.servers import eventually

PAUSE_SECONDS = 0.1


class Clients:
    """Two of them, one request after another."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._over = threading.Event()
        self.accepted: list[str] = []
        self.failed: list[str] = []

    @contextmanager
    def at_work(self) -> Iterator["Clients"]:
        threads = [threading.Thread(target=self._work) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._over.set()
            for thread in threads:
                thread.join()

    def _work(self) -> None:
        while not self._over.wait(PAUSE_SECONDS):
            try:
                status, task = self._world.call("POST", "/tasks", {"type": "echo"})
            except OSError as error:
                self.failed.append(repr(error))
                continue
            if status == 201:
                self.accepted.append(task["uid"])
            else:
                self.failed.append(f"{status} {task}")

    def all_is_well(self) -> None:
        """No request has failed, and every task that was accepted was executed."""
        assert self.failed == []
        assert self.accepted
        assert eventually(lambda: set(self.accepted) <= self._executed(), 120)

    def _executed(self) -> set[str]:
        found: set[str] = set()
        first = path = "/tasks?status=succeeded&limit=100"
        while path:
            _, page = self._world.call("GET", path)
            found.update(task["uid"] for task in page["tasks"])
            path = page["next"] and f"{first}&cursor={page['next']}"
        return found
