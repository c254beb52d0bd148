"""Deploys and rollbacks, good and bad, while clients create tasks: no request fails, and no accepted task is lost."""

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.deploy import broken
from tests.deploy.broken import CRASH_SECONDS, CRASHES_LATER, DOES_NOT_IMPORT, HANGS, IS_NEVER_READY
from tests.deploy.test_kills import a_new_release
from tests.deploy.world import World
from tests.servers import eventually

PAUSE_SECONDS = 0.05


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


@pytest.mark.slow
def test_ten_deploys_and_rollbacks_under_load_fail_no_request_and_lose_no_task(world: World) -> None:
    world.project.stage(world.hosts, verify_seconds=CRASH_SECONDS + 2)
    assert eventually(world.serves, 60)
    with Clients(world).at_work() as clients:
        for fault in (DOES_NOT_IMPORT, IS_NEVER_READY, HANGS, CRASHES_LATER):
            a_new_release(world)
            world.project.fab("deploy")
            good = world.host.current
            broken.commit(world.project, fault)
            said = world.project.fab("deploy", code=1)
            assert re.search(fault.told, said)
            assert world.host.current == good
            broken.undo(world.project)
        world.project.fab("rollback")
        world.project.fab("rollback")
    assert clients.failed == []
    assert len(clients.accepted) > 100
    for uid in clients.accepted:
        assert eventually(lambda uid=uid: world.call("GET", f"/tasks/{uid}")[1]["status"] == "succeeded", 60)  # type: ignore[misc]
