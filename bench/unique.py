"""What a unique key costs who creates: tasks one after the other over one connection, with a key each and without.

RQ's unique jobs are the like: it keeps a lock by the job's id; its producer needs no HTTP.
"""

from collections.abc import Callable, Iterator
from functools import partial
from time import perf_counter
from typing import Final

from bench import peer, servers
from bench.peer import RQ
from bench.rounds import Plan, interleaved
from bench.table import PER_SECOND, Row

TASKS: Final = 4_000
KEYED: Final = "with a unique key"
PLAIN: Final = "without"
RQ_KEYED: Final = f"{RQ.name}, unique"


def measure(plan: Plan) -> Iterator[Row]:
    tasks = plan.size(TASKS)
    candidates: dict[str, Callable[[], float]] = {
        KEYED: partial(_created, tasks, True),
        PLAIN: partial(_created, tasks, False),
        RQ_KEYED: partial(_of_rq, tasks, "send_unique"),
        RQ.name: partial(_of_rq, tasks, "send"),
    }
    samples = interleaved(plan, candidates, fewer=(RQ_KEYED, RQ.name))
    what = "created one by one over HTTP with a unique key"
    yield Row(what, PER_SECOND, samples[KEYED], PLAIN, samples[PLAIN])
    yield Row(what, PER_SECOND, samples[KEYED], RQ_KEYED, samples[RQ_KEYED])
    yield Row("(the same without a key, no HTTP)", PER_SECOND, (), RQ.name, samples[RQ.name])


def _created(tasks: int, keyed: bool) -> float:
    with servers.service() as service:
        service.freeze()
        connection = service.connection()
        begun = perf_counter()
        for number in range(tasks):
            unique = {"unique": {"key": f"key-{number}"}} if keyed else {}
            service.ask(connection, "POST", "/tasks", {"type": "echo"} | unique)
        return tasks / (perf_counter() - begun)


def _of_rq(tasks: int, send: str) -> float:
    with peer.running(RQ) as workers:
        workers.freeze()
        return workers.create(tasks, send)
