"""A made-up layout 2, as a release would bring it: what is handed back waits in a stream of another name.

Run as a process: `layout_two.py URL WRITES CONSUMER`. It reads both layouts and writes the named one; it hands back
every task once, finishes it when it comes again, and ends when nothing is left.
"""

import sys
import time
from collections.abc import Iterable

from service.store import SCRIPTS, Change, Entry, Layout, Store, keys
from service.store.connection import connect
from service.tasks import moments, transitions
from service.tasks.document import NULL, Claim, decode

QUEUES = ("default",)
OLD = keys.returned


def new_name(partition: int, queue: str) -> str:
    return f"sandbox:{{{partition}}}:back:{queue}"


def both(partition: int, queues: Iterable[str], priorities: Iterable[str] = ()) -> list[str]:
    return [name(partition, queue) for queue in queues for name in (OLD, new_name, keys.queue)]


def open_store(url: str, writes: int) -> Store:
    keys.streams = both
    if writes == 2:
        keys.returned = new_name
    wire = connect(url, SCRIPTS)
    return Store(wire, layout=Layout(wire, name="sandbox", partitions=1, reads=2, writes=writes))


def work_off(store: Store, consumer: str, entries: list[Entry]) -> None:
    claims = []
    for entry in entries:
        task = decode(entry.text or b"")
        claim = Claim(consumer, entry.id, entry.stream, entry.id)
        claims.append(Change(entry.text or b"", task, transitions.claimed(task, claim), entry))
    ends = []
    for claim, (task, text) in store.move(claims, consumer=consumer).stored:
        now = moments.stamp(time.time())
        again = task.attempt == 1
        after = transitions.handed_back(task, ran=True) if again else transitions.succeeded(task, NULL, now, now, 0.0)
        ends.append(Change(text, task, after, claim.entry))
    assert store.move(ends).refused == []


def main(url: str, writes: int, consumer: str) -> None:
    store = open_store(url, writes)
    while True:
        if entries := store.queues.fetch(0, QUEUES, consumer, 8):
            work_off(store, consumer, entries)
        elif not any(store.backlog(QUEUES)["default"][:3]):
            break
    store.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
