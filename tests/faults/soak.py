"""Clients, runners and a saboteur for some time; then the ledger must add up.

make soak SECONDS=600 SEED=7
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import psutil
import redis

from tests.faults.client import Client
from tests.faults.ledger import AT_ONCE, FINAL, Ledger
from tests.faults.saboteur import Saboteur, client_of
from tests.servers import DEBIAN, RedisServer, eventually
from tests.system.instance import Instance
from tests.system.releases import Releases

CLIENTS: Final = 3
RUNNERS: Final = 2
NEWS_SECONDS: Final = 5.0
SETTLE_SECONDS: Final = 90.0
UID_LENGTH: Final = 64
SPARE_DESCRIPTORS: Final = Counter(web=12, runner=4, redis=32)  # connections to Redis, opened when they are needed
SCHEDULE: Final = {"type": "work", "every": 1, "overlap": "allow"}
SETTINGS: Final = {
    "SANDBOX_TASKS": "tests.faults.handlers",
    "SANDBOX_RUNNERS": str(RUNNERS),
    "SANDBOX_LEASE": "5",
    "SANDBOX_GRACE": "1",
    "SANDBOX_RELOAD": "10",
}


class Balance(NamedTuple):
    ledger: Ledger
    problems: list[str]


def run(
    folder: Path, *, seconds: float, seed: int, beside: bool = False, tell: Callable[[str], None] = lambda _: None
) -> Balance:
    dice = random.Random(seed)
    server = _redis_beside(folder) if beside else None
    releases = Releases(folder / "releases")
    variables = {**SETTINGS, "SANDBOX_RELEASE": str(releases.link)} | ({"REDIS_URL": server.url} if server else {})
    instance = Instance(folder, **variables)
    ledger = Ledger(folder / "runs")
    try:
        saboteur = Saboteur(instance, releases, server, ledger, dice)
        saboteur.start()
        descriptors = _descriptors(instance)
        _trouble(instance, saboteur, ledger, dice, seconds, tell)
        documents = _settled(instance, ledger)
        problems = [*ledger.problems(documents), *ledger.unexplained(instance.home / "log" / "circus.log")]
        problems += _left_over(instance, descriptors)
        if instance.stop() != 0:
            problems.append(f"the stop was not in order: {instance.output}")
        problems += [f"left over: {process.command}" for process in instance.processes()]
        return Balance(ledger, problems)
    finally:
        instance.clean_up()
        if server is not None:
            server.stop()


def _redis_beside(folder: Path) -> RedisServer:
    (folder / "redis").mkdir()
    return RedisServer(folder / "redis", DEBIAN).start()


def _trouble(
    instance: Instance,
    saboteur: Saboteur,
    ledger: Ledger,
    dice: random.Random,
    seconds: float,
    tell: Callable[[str], None],
) -> None:
    clients = [Client(instance.port, ledger, random.Random(dice.random())) for _ in range(CLIENTS)]
    operator = Client(instance.port, ledger, dice)
    operator.insist("PUT", "/limits/soak", {"key": "args.customer", "concurrency": AT_ONCE})
    operator.insist("PUT", "/schedules/soak", SCHEDULE | {"args": {"path": str(ledger.runs)}})
    for client in clients:
        client.start()
    begun = time.monotonic()
    news = begun + NEWS_SECONDS
    while (now := time.monotonic()) < begun + seconds:
        time.sleep(dice.uniform(0.1, 1.5))
        saboteur.strike()
        _look(instance, ledger)
        if now > news:
            news = now + NEWS_SECONDS
            tell(f"{now - begun:6.0f} s   {ledger.line()}")
    saboteur.end()
    for client in clients:
        client.end()
    operator.insist("POST", "/schedules/soak/pause")
    ledger.fired["soak"] = operator.insist("GET", "/schedules/soak")["fired"]


# --- what Redis holds ------------------------------------------------------------------------------------


def _look(instance: Instance, ledger: Ledger) -> None:
    uids = list(ledger.unfinished)
    with client_of(instance) as client, suppress(redis.RedisError):
        ledger.look(dict(zip(uids, client.mget(uids) if uids else [], strict=True)))


def _settled(instance: Instance, ledger: Ledger) -> dict[str, bytes]:
    """Waits until every task has finished, or the time is up; returns all documents."""
    until = time.monotonic() + SETTLE_SECONDS
    while (ledger.unfinished or not _all_final(_documents(instance))) and time.monotonic() < until:
        _look(instance, ledger)
        time.sleep(0.1)
    return _documents(instance)


def _documents(instance: Instance) -> dict[str, bytes]:
    with client_of(instance) as client:
        uids = [key.decode() for key in client.scan_iter(count=1000, _type="string") if len(key) == UID_LENGTH]
        return dict(zip(uids, client.mget(uids), strict=True))


def _all_final(documents: dict[str, bytes]) -> bool:
    """What the schedule has created, too."""
    return all(json.loads(text)["status"] in FINAL for text in documents.values())


# --- what is left of processes and descriptors -----------------------------------------------------------


def _left_over(instance: Instance, before: Counter[str]) -> Iterator[str]:
    embedded = "REDIS_URL" not in instance.environment
    expected = {"web": 3, "runner": RUNNERS, "redis": int(embedded)}
    others = 1 + embedded  # circusd, and Redis's companion

    def as_expected() -> bool:
        kinds = {kind: len(processes) for kind, processes in instance.kinds().items()}
        return kinds == expected and len(instance.processes()) == sum(expected.values()) + others

    try:
        eventually(as_expected, 15, 0.1)
    except AssertionError:
        yield "these processes are not as they should be: " + "; ".join(p.command for p in instance.processes())
    for kind, count in _descriptors(instance).items():
        if count > before[kind] + SPARE_DESCRIPTORS[kind]:
            yield f"a {kind} has {count} descriptors open; it had {before[kind]} at first"


def _descriptors(instance: Instance) -> Counter[str]:
    """For each kind of process, the most descriptors that one has open."""
    most = Counter(circusd=psutil.Process(instance.pid).num_fds())
    for kind, processes in instance.kinds().items():
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                most[kind] = max(most[kind], psutil.Process(process.pid).num_fds())
    return most


def main() -> int:
    parser = argparse.ArgumentParser(prog="soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=random.randrange(10_000))
    options = parser.parse_args()
    beside = options.seed % 3 == 2
    print(f"seed {options.seed}, {options.seconds:g} s, {'a Redis beside it' if beside else 'the embedded Redis'}")
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    balance = run(folder, seconds=options.seconds, seed=options.seed, beside=beside, tell=partial(print, flush=True))
    print(balance.ledger.table())
    for problem in balance.problems:
        print(f"  PROBLEM    {problem}")
    if balance.problems:
        print(f"Again with: make soak SECONDS={options.seconds:g} SEED={options.seed}. Logs and data: {folder}")
        return 1
    print("  it adds up")
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
