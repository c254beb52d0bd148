"""Finds tasks that take up a place of a limit, and whose documents say that they do not belong there.

No script leaves any behind. But a release that does not know a type's limits may run a task that another one has let
in, and documents may be lost with a server. Looked at are places at which others wait.
"""

import random
from collections.abc import Iterator, Sequence
from typing import Final

from service.store import keys
from service.store.connection import Wire
from service.store.documents import Document, document
from service.store.scripts import VACATE
from service.tasks.document import QUEUED, RUNNING

PLACES: Final = 100
MEMBERS: Final = 1000
AT_ONCE: Final = 100  # documents: they may be large
ADMITTED: Final = "admitted"
CLAIMS: Final = "claims"


def vacate(wire: Wire, groups: Sequence[Sequence[int]]) -> Iterator[int]:
    """Looks at some places of each partition, another time at others. After each round trip: how many tasks have left
    one by it. Whoever asks may stop for a while between two of them.
    """
    for group in random.sample(groups, len(groups)):  # one that is away must not always be in the way of the same
        for partition in group:
            [places] = wire.call(partition, ("SRANDMEMBER", keys.limit(partition, "places"), PLACES))
            yield 0
            for place in places:
                for kind in (ADMITTED, CLAIMS):
                    yield from _vacate(wire, partition, place.decode(), kind)


def _vacate(wire: Wire, partition: int, place: str, kind: str) -> Iterator[int]:
    kept = keys.limit(partition, f"{kind}:{place}")
    [members] = wire.call(partition, ("SRANDMEMBER", kept, MEMBERS))
    yield 0
    for begin in range(0, len(members), AT_ONCE):
        some = members[begin : begin + AT_ONCE]
        [texts] = wire.call(partition, ("MGET", *some))
        yield 0
        for uid, text in zip((each.decode() for each in some), texts, strict=True):
            if not _belongs(document(uid, text), place, kind):
                command = VACATE.call([uid, kept], (keys.base(partition), place, text or b""))
                yield wire.call(partition, command)[0]


def _belongs(found: Document | None, place: str, kind: str) -> bool:
    if found is None or not found.is_readable:
        return found is not None
    task = found.task
    if kind == ADMITTED:
        return task.status == QUEUED
    return task.status == RUNNING and task.claim is not None and place in task.claim.places
