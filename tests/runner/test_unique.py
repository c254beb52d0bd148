"""Of a unique key one task runs at a time, whatever happens to the runners."""

import random
import signal
import threading
import time
from collections import defaultdict
from contextlib import suppress
from pathlib import Path

import msgspec

from service.errors import SandboxError
from service.store import SCRIPTS, Store, keys
from service.store.connection import connect
from service.tasks import moments
from service.tasks.document import QUEUED, Task, Unique
from service.tasks.uid import random_prefix
from tests.runner.crew import Crew
from tests.servers import BUSY, RedisServer, eventually

KEYS = ("a", "b", "c")
RULES = ("return", "reject", "replace", "keep_last")
COUNT = 120


def new(store: Store, path: Path, number: int) -> Task:
    key, rule = KEYS[number % len(KEYS)], RULES[number % len(RULES)]
    wanted = Unique(key, "finished", rule)
    args = {"path": str(path), "key": key, "seconds": 0.05}
    return Task(
        uid=store.uid(random_prefix(), store.unique_keys.home("alone", wanted)),
        type="alone",
        queue="default",
        status=QUEUED,
        created_at=moments.stamp(time.time()),
        args=msgspec.Raw(msgspec.json.encode(args)),
        unique=wanted,
    )


def send(store: Store, path: Path, dice: random.Random, made: list[str]) -> None:
    for number in range(COUNT):
        with suppress(SandboxError):  # the key is held
            made += [task.uid for task in store.create_unique([new(store, path, number)]).new]
        time.sleep(dice.uniform(0, 0.04))


def test_of_a_key_one_runs_at_a_time_though_runners_are_killed(crew: Crew, server: RedisServer, tmp_path: Path) -> None:
    path, made = tmp_path / "runs", list[str]()
    crew.start(2, threads=2, lease=5)
    stores = [Store(connect(server.url, SCRIPTS)) for _ in range(2)]
    clients = [
        threading.Thread(target=send, args=(store, path, random.Random(number), made))
        for number, store in enumerate(stores)
    ]
    for client in clients:
        client.start()
    eventually(lambda: path.exists() and len(path.read_text().splitlines()) > 20, 10 * BUSY)
    crew.runners[0].send_signal(signal.SIGKILL)
    crew.start(1, threads=2, lease=5)
    eventually(lambda: len(path.read_text().splitlines()) > 60, 10 * BUSY)
    crew.stop(crew.runners[1], 20 * BUSY)
    crew.start(1, threads=2, lease=5)
    for client in clients:
        client.join()
    eventually(lambda: all(crew.read(uid).finished for uid in made), 20 * BUSY)

    running: dict[str, str] = {}
    runs: dict[str, int] = defaultdict(int)
    for line in path.read_text().splitlines():
        what, key, uid, _ = line.split()
        other = running.get(key, uid)
        assert other == uid, f"{uid} and {other} ran at the same time, both with {key}"
        if what == "begun":
            running[key] = uid
            runs[uid] += 1
        else:
            running.pop(key)
    assert {uid for uid in made if crew.read(uid).status == "succeeded"} <= runs.keys()
    assert not any(store.unique_keys.holder(new(store, path, 0)) for store in stores)
    assert crew.store._wire.call(0, ("HLEN", keys.unique(0))) == [0]
    for store in stores:
        store.close()
