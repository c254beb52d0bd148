"""The page beside a million tasks, and what it costs the runners: `.venv/bin/python bench/page.py`.

50 types, 20 queues, 300 shelves. Each page is asked for over one connection; the figures are the median and the slowest
of its requests, in ms. Then two runners drain no-op tasks while 20 tabs show the overview, as browsers ask for it, and
while none does; and without runners, what these tabs use of a processor, which says more on a machine that is busy.
"""

import argparse
import http.client
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import psutil
import redis

HERE: Final = Path(__file__).absolute().parent
sys.path[0] = str(HERE.parent)  # bench is a package; run as a script, Python would look inside it

from bench import drain, servers  # noqa: E402
from bench.processes import complain, processor_seconds  # noqa: E402
from bench.servers import Service  # noqa: E402
from service.store import keys  # noqa: E402
from service.tasks import moments  # noqa: E402
from service.tasks.document import Task, TaskError, encode  # noqa: E402
from service.tasks.uid import random_prefix, slot, steer  # noqa: E402

TASKS: Final = 1_000_000
TYPES: Final = 50
QUEUES: Final = tuple(f"queue{number}" for number in range(20))
STATUSES: Final = (*("succeeded",) * 90, *("failed",) * 5, *("cancelled",) * 2, *("queued",) * 3)
SHELVES_A_TYPE: Final = 6  # 300 in all
LIMIT_MS: Final = 100.0
REQUESTS: Final = 50
TABS: Final = 20
TAB_SECONDS: Final = 5.0  # as templates/overview.html says
DRAINED: Final = 60_000
COST_PERCENT: Final = 3.0
ROUNDS: Final = 5
USE_SECONDS: Final = 20.0


class Sample(NamedTuple):
    path: str
    median_ms: float
    slowest_ms: float


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tasks", type=int, default=TASKS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--only", choices=("pages", "use", "cost"))
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # unwinds, so that the service is stopped
    missed = False
    if given.only in (None, "pages"):
        missed = any(sample.median_ms > LIMIT_MS for sample in list(pages(given.tasks)))
    if given.only in (None, "use"):
        print(f"the overview in {TABS} tabs uses {use():.1f}% of a processor", flush=True)
    if given.only in (None, "cost"):
        lost = cost(given.rounds)
        print(f"the overview in {TABS} tabs costs the drain {lost:.1f}% (at most {COST_PERCENT:g}%)")
        missed = missed or lost > COST_PERCENT
    return 1 if missed else 0


def pages(tasks: int) -> Iterator[Sample]:
    with servers.service(SANDBOX_QUEUES=",".join(("default", *QUEUES))) as service:
        service.freeze()
        complain(f"storing {tasks} tasks")
        one = fill(service.redis, tasks)
        failing = "/ui/tasks?status=failed&type=type7&queue=queue7"
        others = ("queues", "limits", "types", "schedules", "runners", "audit")
        for path in ("/ui", "/ui/tasks", failing, f"/ui/tasks/{one}", *(f"/ui/{name}" for name in others)):
            sample = timed(service.port, path)
            print(f"{sample.median_ms:7.1f} ms  {sample.slowest_ms:7.1f} ms  {path[:60]}", flush=True)
            yield sample


def fill(client: redis.Redis, tasks: int) -> str:
    """Documents and shelves as the scripts would leave them. Returns a UID."""
    wanted, now, uid = slot(b"0"), time.time_ns() // 1000, ""
    pipeline = client.pipeline(transaction=False)
    for number in range(tasks):
        task = _task(steer(random_prefix(), wanted), number, now - number * 1000)
        uid = task.uid
        shelf = keys.shelf_name(task, task.status)
        pipeline.set(uid, encode(task))
        pipeline.zadd(keys.shelf(0, shelf), {uid: now - number * 1000})
        if number < TYPES * 200:
            pipeline.sadd(keys.shelves(0), shelf)
        if number % 5000 == 0:
            pipeline.execute()
    pipeline.execute()
    return uid


def _task(uid: str, number: int, created: int) -> Task:
    status = STATUSES[number * 7 % len(STATUSES)]
    moment = moments.stamp_exactly(created)
    kind = number % TYPES
    queue = QUEUES[(kind + number // TYPES % 2) % len(QUEUES)]
    task = Task(uid=uid, type=f"type{kind}", queue=queue, status=status, created_at=moment)
    task.args = b'{"month":"May","rows":10}'  # type: ignore[assignment]
    if status in ("succeeded", "failed"):
        task.started_at = task.finished_at = moment
        task.duration, task.attempt = 0.25, 1
    if status == "failed":
        task.error = TaskError(type="ValueError", message="there is no month 13")
    return task


def timed(port: int, path: str) -> Sample:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    took = []
    for _ in range(REQUESTS):
        begun = time.perf_counter()
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, (path, answer.status)
        took.append((time.perf_counter() - begun) * 1000)
    connection.close()
    return Sample(path, median(took), max(took))


def use() -> float:
    """What the tabs use of a processor in the web workers and in Redis, in percent."""
    with servers.service() as service, _open(service, TABS):
        service.freeze()
        redis_server = psutil.Process(service.redis.info("server")["process_id"])
        processes = [*service.web_workers(), redis_server]
        time.sleep(TAB_SECONDS)
        before, begun = processor_seconds(processes), time.monotonic()
        time.sleep(USE_SECONDS)
        return 100 * (processor_seconds(processes) - before) / (time.monotonic() - begun)


def cost(rounds: int) -> float:
    """How much slower the drain is beside the tabs, in percent."""
    rates: dict[int, list[float]] = {0: [], TABS: []}
    for number in range(rounds):
        for tabs in (0, TABS) if number % 2 else (TABS, 0):
            rates[tabs].append(_rate(tabs))
            complain(f"  {tabs} tabs: {rates[tabs][-1]:.0f} tasks/s")
    return 100 * (1 - median(rates[TABS]) / median(rates[0]))


def _rate(tabs: int) -> float:
    with servers.service() as service, _open(service, tabs):
        service.freeze()
        return drain.drained(service, service.runners(), DRAINED, lambda: service.create(DRAINED)).rate


@contextmanager
def _open(service: Service, tabs: int) -> Iterator[None]:
    over = threading.Event()

    def show(number: int) -> None:
        over.wait(number * TAB_SECONDS / TABS)
        while not over.is_set():
            begun = time.monotonic()
            connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=30)
            connection.request("GET", "/ui", headers={"Accept": "text/html"})
            connection.getresponse().read()
            connection.close()
            over.wait(max(0.0, TAB_SECONDS - (time.monotonic() - begun)))

    threads = [threading.Thread(target=show, args=(number,)) for number in range(tabs)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    sys.exit(main())
