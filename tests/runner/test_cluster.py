"""A queue at work on a cluster: three nodes, four partitions, real runners, some of which are killed.

Clients speak to the application; it and the runners share nothing but the cluster.
"""

import random
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from service.store import SCRIPTS, Store, keys, streams
from service.store.connection import connect
from service.tasks.document import HIGH, LOW, NORMAL, PRIORITIES, Task
from service.tasks.registry import Registry
from service.tasks.uid import random_prefix
from service.web.app import create_app
from tests.runner.crew import Crew
from tests.runner.test_apart import have_ended
from tests.servers import BUSY, RedisCluster, eventually

PARTITIONS: Final = 4
QUEUES: Final = {"critical": 5, "default": 2, "bulk": 1}
MODULES: Final = ("service.builtin.demo", "tests.runner.handlers", "tests.runner.apart_types")
SECONDS: Final = 20.0 * BUSY


class Site:
    """What clients, and people, see."""

    def __init__(self, cluster: RedisCluster, folder: Path) -> None:
        self.store = Store(connect(cluster.url, SCRIPTS), partitions=PARTITIONS)
        self.crew = Crew(folder, cluster.url, self.store)
        registry = Registry.load(MODULES)
        self._app = create_app(
            store=self.store, registry=registry, queues=tuple(QUEUES), tokens=None, waiting_clients=10
        )

    def call(self, method: str, path: str, body: Any = None, *, refused: tuple[int, ...] = ()) -> Any:
        answer = self._app.test_client().open(path, method=method, json=body)
        assert answer.status_code in (200, 201, *refused), (method, path, answer.json)
        return answer.json

    def create(self, type: str, **fields: Any) -> str:
        return str(self.call("POST", "/tasks", {"type": type, **fields})["uid"])

    def start(self, count: int = 1, **settings: Any) -> None:
        weights = ",".join(f"{queue}:{weight}" for queue, weight in QUEUES.items())
        usual = {"queues": weights, "partitions": PARTITIONS, "tasks": ",".join(MODULES), "lease": 5}
        self.crew.start(count, **(usual | settings))

    def spread(self, type: str, count: int, **fields: Any) -> list[str]:
        """So many in each partition."""
        made = []
        for partition in range(PARTITIONS):
            tasks = self.crew.new(type, count=count, **fields)
            for task in tasks:
                task.uid = self.store.uid(random_prefix(), partition)
            made += self.crew.store_all(tasks)
        return made

    def listed(self, query: str) -> list[dict[str, Any]]:
        found, cursor = [], ""
        while cursor is not None:
            page = self.call("GET", f"/tasks?limit=100&{query}{cursor and f'&cursor={cursor}'}")
            found += page["tasks"]
            cursor = page["next"]
        return found

    def fired(self) -> list[int]:
        return [schedule["fired"] for schedule in self.call("GET", "/schedules")["schedules"]]

    def unfinished(self) -> int:
        return sum(each.depth + each.running + each.scheduled for each in self.store.backlog(()).values())

    def tasks(self, uids: list[str]) -> list[Task]:
        return [found.task for found in self.store.read_many(uids) if found is not None]

    def left_over(self) -> dict[str, int]:
        """What points at tasks, or bounds them."""
        found: Counter[str] = Counter()
        for partition in range(PARTITIONS):
            wire = self.store._wire
            for name in streams(partition, QUEUES):
                found["entries"] += wire.call(partition, ("XLEN", name))[0]
            found["due"] += wire.call(partition, ("ZCARD", keys.due(partition)))[0]
            found["unique keys"] += wire.call(partition, ("HLEN", keys.unique(partition)))[0]
            for what in ("places", "tasks", "wakes"):
                kind = {"places": "SCARD", "tasks": "HLEN", "wakes": "ZCARD"}[what]
                found[f"{what} of limits"] += wire.call(partition, (kind, keys.limit(partition, what)))[0]
        found["lots"] = sum(lot.tasks for lot in self.store.lots.now())
        return +found


@pytest.fixture
def site(cluster: RedisCluster, tmp_path: Path) -> Iterator[Site]:
    site = Site(cluster, tmp_path)
    yield site
    site.crew.kill_all()
    site.store.close()


def test_queues_and_priorities_have_their_shares_in_every_partition(site: Site) -> None:
    """While all of their lines are full."""
    made = [
        uid
        for queue in QUEUES
        for priority in PRIORITIES
        for uid in site.spread("nap", 30, args={"seconds": 0.02}, queue=queue, priority=priority)
    ]
    turns = 2 * PARTITIONS * (sum(QUEUES.values()) + 10)  # each queue and each priority has come first twice everywhere
    site.start()
    eventually(lambda: site.unfinished() <= len(made) - turns, SECONDS)
    site.crew.kill_all()

    done = sorted((task for task in site.tasks(made) if task.finished), key=lambda task: task.finished_at or "")[:turns]
    queues, priorities = Counter(task.queue for task in done), Counter(task.priority for task in done)
    for queue, weight in QUEUES.items():
        assert abs(queues[queue] / turns - weight / 8) < 0.05, queues
    for priority, share in {HIGH: 0.7, NORMAL: 0.2, LOW: 0.1}.items():
        assert abs(priorities[priority] / turns - share) < 0.05, priorities
    seen = {(site.store.partition(task.uid), each) for task in done for each in (task.queue, task.priority)}
    assert len(seen) == PARTITIONS * (len(QUEUES) + len(PRIORITIES)), f"some starve in a partition: {seen}"


@pytest.mark.parametrize("path", ["/queues/bulk", "/types/nap"])
def test_a_pause_holds_for_every_runner_in_every_partition_and_all_come_back(site: Site, path: str) -> None:
    site.start(2, threads=2)
    first = site.spread("nap", 1, args={"seconds": 0}, queue="bulk")
    eventually(lambda: all(task.finished for task in site.tasks(first)), SECONDS)  # all are idle now
    running = site.spread("nap", 1, args={"seconds": 2}, queue="bulk")
    eventually(lambda: all(task.started_at for task in site.tasks(running)), SECONDS)
    site.call("POST", f"{path}/pause")
    held = site.spread("nap", 20, args={"seconds": 0}, queue="bulk")
    others = site.spread("echo", 20)
    eventually(lambda: all(task.finished for task in site.tasks(running + others)), SECONDS)
    assert {task.attempt for task in site.tasks(held)} == {0}
    assert {(task.status, task.attempt) for task in site.tasks(running)} == {("succeeded", 1)}

    site.call("POST", f"{path}/resume")
    eventually(lambda: site.unfinished() == 0, SECONDS)
    assert {(task.status, task.attempt) for task in site.tasks(held)} == {("succeeded", 1)}
    assert site.left_over() == {}


def test_an_attempt_in_a_process_of_its_own_ends_with_its_runner_and_runs_again(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "note"
    site.start(threads=4)
    uids = site.spread("apart.note", 1, args={"path": str(path)})
    first = eventually(lambda: processes(path, 4), SECONDS)
    site.crew.runners[0].kill()
    eventually(lambda: have_ended(first), SECONDS)
    site.start(threads=4)
    both = eventually(lambda: processes(path, 8), SECONDS)
    for uid in uids:
        site.call("DELETE", f"/tasks/{uid}")
    eventually(lambda: have_ended(both), SECONDS)
    found = site.tasks(uids)
    assert {(task.status, task.attempt, task.crashes) for task in found} == {("cancelled", 2, 1)}
    eventually(lambda: site.left_over() == {}, SECONDS)


def processes(path: Path, attempts: int) -> list[int] | None:
    """Of so many attempts, with what they have started."""
    lines = path.read_text().splitlines() if path.exists() else []
    return [int(pid) for line in lines for pid in line.split()] if len(lines) == attempts else None


# --- everything at once --------------------------------------------------------------------------------

RULES: Final = ("return", "reject", "replace", "keep_last")
SCHEDULES: Final = [f"every-{number}" for number in range(30)]  # many are due at once: runners meet at them
CUSTOMERS: Final = [f"customer-{number}" for number in range(8)]
MOST: Final = 2
KILLS: Final = 6
AT_LEAST: Final = 25  # tasks that end between two kills


class Client(threading.Thread):
    """Sends unique and limited tasks until it is told to end."""

    def __init__(self, site: Site, folder: Path, seed: int) -> None:
        super().__init__()
        self.unique: list[str] = []
        self.limited: list[str] = []
        self.failure: BaseException | None = None
        self._site = site
        self._folder = folder
        self._dice = random.Random(seed)
        self._over = threading.Event()

    def run(self) -> None:
        try:
            while not self._over.wait(self._dice.uniform(0, 0.05)):
                if self._site.unfinished() < 150:
                    self._send()
        except BaseException as error:
            self.failure = error

    def _send(self) -> None:
        chance, priority = self._dice, self._dice.choice(PRIORITIES)
        customer, queue = chance.choice(CUSTOMERS), chance.choice(list(QUEUES))
        args: dict[str, Any] = {"folder": str(self._folder), "key": customer, "seconds": 0.02}
        self.limited.append(self._site.create("counted", args=args, queue=queue, priority=priority))

        kind, rule = chance.choice(("alone", "apart.alone")), chance.choice(RULES)
        key = f"{kind}-{chance.randrange(3)}"
        wanted = {
            "type": kind,
            "args": {"path": str(self._folder / "runs"), "key": key, "seconds": 0.05},
            "unique": {"key": key, "until": "finished", "on_conflict": rule},
            "queue": queue,
            "priority": priority,
        }
        answer = self._site.call("POST", "/tasks", wanted, refused=(409,))
        if "uid" in answer:
            self.unique.append(answer["uid"])

    def end(self) -> None:
        self._over.set()
        self.join()
        if self.failure is not None:
            raise self.failure


def test_schedules_unique_keys_and_limits_hold_though_runners_are_killed(site: Site, tmp_path: Path) -> None:
    folder = tmp_path / "runs"
    folder.mkdir()
    site.call("PUT", "/limits/by-key", {"key": "args.key", "concurrency": MOST})
    for name in SCHEDULES:
        site.call("PUT", f"/schedules/{name}", {"type": "echo", "every": 1, "overlap": "allow"})
    site.start(3, threads=2)
    clients = [Client(site, folder, seed) for seed in range(2)]
    for client in clients:
        client.start()
    try:
        _kill_runners(site, lambda: sum(len(client.unique) + len(client.limited) for client in clients))
    finally:
        for client in clients:
            client.end()
    for name in SCHEDULES:
        site.call("POST", f"/schedules/{name}/pause")
    eventually(lambda: site.unfinished() == 0, SECONDS)

    _each_time_has_one_task(site)
    unique = site.tasks(sorted({uid for client in clients for uid in client.unique}))
    _no_key_was_held_by_two((folder / "runs").read_text(), unique)
    limited = site.tasks([uid for client in clients for uid in client.limited])
    assert {task.status for task in limited} == {"succeeded"}
    counts = [int(line) for path in folder.glob("*.txt") for line in path.read_text().split()]
    assert max(counts) == MOST and len(counts) >= len(limited)
    for tasks in (unique, limited):
        assert len({site.store.partition(task.uid) for task in tasks}) > 1
    eventually(lambda: site.left_over() == {}, SECONDS)


def _kill_runners(site: Site, created: Callable[[], int]) -> None:
    """One after the other, each when tasks have ended and all schedules have fired since the last. After the fourth a
    type is paused for a while.
    """
    chance = random.Random(1)
    for turn in range(KILLS):
        done, fired = created() - site.unfinished(), site.fired()
        eventually(lambda: created() - site.unfinished() >= done + AT_LEAST, SECONDS)  # noqa: B023
        eventually(lambda: all(now > before for now, before in zip(site.fired(), fired, strict=True)), SECONDS, 0.1)  # noqa: B023
        victim = chance.choice([runner for runner in site.crew.runners if runner.poll() is None])
        victim.kill()
        if turn == 3:
            site.call("POST", "/types/counted/pause")
        site.start(threads=2)
        if turn == 4:
            site.call("POST", "/types/counted/resume")


def _each_time_has_one_task(site: Site) -> None:
    homes = set()
    for name in SCHEDULES:
        schedule = site.call("GET", f"/schedules/{name}")
        tasks = site.listed(f"schedule={name}")
        times = [task["scheduled_for"] for task in tasks]
        assert len(times) == len(set(times)) == schedule["fired"] >= KILLS, (name, times, schedule)
        assert len({each[19:] for each in times}) == 1, "`every` keeps its phase"
        assert {task["status"] for task in tasks} == {"succeeded"}
        homes |= {site.store.partition(task["uid"]) for task in tasks}
    assert len(homes) > 1


def _no_key_was_held_by_two(runs: str, unique: list[Task]) -> None:
    running: dict[str, str] = {}
    ran: dict[str, int] = defaultdict(int)
    for line in runs.splitlines():
        what, key, uid, _ = line.split()
        other = running.get(key, uid)
        assert other == uid, f"{uid} and {other} ran at the same time, both with {key}"
        if what == "begun":
            running[key] = uid
            ran[uid] += 1
        else:
            running.pop(key, None)
    succeeded = {task.uid for task in unique if task.status == "succeeded"}
    replaced = {task.uid for task in unique if task.status == "cancelled"}
    assert len(succeeded) + len(replaced) == len(unique)
    assert succeeded == ran.keys() and not replaced & ran.keys(), "who gave way has not run"
