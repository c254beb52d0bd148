"""Finds tasks that take up a place of a limit, and whose documents say that they do not belong there.

No script leaves any behind. But a release that does not know a type's limits may run a task that another one has let
in, and documents may be lost with a server. Looked at are places at which others wait.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from service.store import keys
from service.store.connection import Wire
from service.store.documents import Document, document
from service.store.scripts import VACATE
from service.tasks.document import QUEUED, RUNNING

PLACES: Final = 100
MEMBERS: Final = 1000
ADMITTED: Final = "admitted"
CLAIMS: Final = "claims"


def vacate(wire: Wire, groups: Sequence[Sequence[int]]) -> int:
    """Looks at some places of each partition, another time at others. Returns how many tasks have left one."""
    return sum(
        wire.call(partition, VACATE.call([uid, kept], (keys.base(partition), place, text)))[0]
        for group in groups
        for partition in group
        for place in _some(wire, partition)
        for uid, kept, text in _misplaced(wire, partition, place)
    )


def _some(wire: Wire, partition: int) -> list[str]:
    [places] = wire.call(partition, ("SRANDMEMBER", keys.limit(partition, "places"), PLACES))
    return [place.decode() for place in places]


def _misplaced(wire: Wire, partition: int, place: str) -> Iterator[tuple[str, str, bytes]]:
    for kind in (ADMITTED, CLAIMS):
        kept = keys.limit(partition, f"{kind}:{place}")
        [members] = wire.call(partition, ("SRANDMEMBER", kept, MEMBERS))
        texts = wire.call(partition, ("MGET", *members))[0] if members else ()
        for member, text in zip(members, texts, strict=True):
            uid = member.decode()
            if not _belongs(document(uid, text), place, kind):
                yield uid, kept, text or b""


def _belongs(found: Document | None, place: str, kind: str) -> bool:
    if found is None or not found.is_readable:
        return found is not None
    task = found.task
    if kind == ADMITTED:
        return task.status == QUEUED
    return task.status == RUNNING and task.claim is not None and place in task.claim.places
