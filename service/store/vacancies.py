"""Finds tasks that take up a place of a limit, and whose documents say that they do not belong there.

No script leaves any behind. But a release that does not know a type's limits may run a task that another one has let
in, and documents may be lost with a server. Looked at are places at which others wait. Those whose type does not name
the limit any more are let go, one after the other, before they are claimed: else they would pass a few at each look.
"""

import random
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Final

from service.store import keys
from service.store.connection import Wire
from service.store.documents import Document, document
from service.store.scripts import VACATE
from service.tasks.document import QUEUED, RUNNING

PLACES: Final = 100
MEMBERS: Final = 1000
AT_ONCE: Final = 100  # documents: they may be large
TURNS: Final = 1000  # at one place: a runner of a release that names the limit may send them back meanwhile
ADMITTED: Final = "admitted"
CLAIMS: Final = "claims"


def vacate(wire: Wire, groups: Sequence[Sequence[int]], named: Mapping[str, Sequence[str]]) -> Iterator[int]:
    """Looks at some places of each partition, another time at others. After each round trip: how many tasks have left
    one by it. Whoever asks may stop for a while between two of them. `named`: by type, the limits that it names.
    """
    for group in random.sample(groups, len(groups)):  # one that is away must not always be in the way of the same
        for partition in group:
            [places] = wire.call(partition, ("SRANDMEMBER", keys.limit(partition, "places"), PLACES))
            yield 0
            for place in places:
                for kind in (ADMITTED, CLAIMS):
                    for _ in range(TURNS):
                        if not (yield from _vacate(wire, partition, place.decode(), kind, named)):
                            break


def _vacate(
    wire: Wire, partition: int, place: str, kind: str, named: Mapping[str, Sequence[str]]
) -> Generator[int, None, bool]:
    """Returns whether some that wait for a runner have left it: who is admitted in their places may be alike."""
    let_go = False
    kept = keys.limit(partition, f"{kind}:{place}")
    [members] = wire.call(partition, ("SRANDMEMBER", kept, MEMBERS))
    yield 0
    for begin in range(0, len(members), AT_ONCE):
        some = members[begin : begin + AT_ONCE]
        texts, records = wire.call(partition, ("MGET", *some), ("HMGET", keys.limit(partition, "tasks"), *some))
        yield 0
        for uid, text, record in zip((each.decode() for each in some), texts, records, strict=True):
            found = document(uid, text)
            if not _belongs(found, place, kind, named, record):
                command = VACATE.call([uid, kept], (keys.base(partition), place, text or b""))
                [left] = wire.call(partition, command)
                let_go |= left and found is not None and found.task.status == QUEUED
                yield left
    return let_go


def _belongs(
    found: Document | None, place: str, kind: str, named: Mapping[str, Sequence[str]], record: bytes | None
) -> bool:
    """`record`: what is known of it while it is queued (lua/limits.lua). One that waits keeps no place."""
    if found is None or not found.is_readable:
        return found is not None
    task = found.task
    if kind == ADMITTED:
        limit = place.partition(":")[0]
        is_admitted = record is not None and record.startswith(b"- ")
        return task.status == QUEUED and is_admitted and limit in named.get(task.type, (limit,))
    return task.status == RUNNING and task.claim is not None and place in task.claim.places
