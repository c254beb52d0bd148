"""What is kept beside a document: its task's log, and the attempts of which the document tells no more.

Both lie in the document's slot, and go when it goes. The scripts that change documents keep the attempts.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from service.store import keys
from service.store.connection import Wire
from service.store.documents import Document, document
from service.store.keys import Partitions
from service.store.scripts import ATTEMPTS, LOG
from service.tasks import attempts, lines
from service.tasks.attempts import Attempt
from service.tasks.lines import MOST_BYTES, MOST_LINES, Portion

AT_ONCE: Final = MOST_LINES


class StoredLine(NamedTuple):
    number: int
    at: int  # microseconds since the epoch
    level: str
    attempt: int
    text: str


class Logged(NamedTuple):
    """A part of a log: lines, the number of the last one there is, how many there were that are gone."""

    lines: list[StoredLine]
    last: int
    dropped: int


class Logbook:
    def __init__(self, wire: Wire, partitions: Partitions) -> None:
        self._wire = wire
        self._partitions = partitions

    def write(self, portions: Sequence[tuple[str, Portion]]) -> None:
        """Stores lines for each of these tasks; what was stored before changes nothing."""
        by_partition: dict[int, list[Any]] = {}
        for uid, portion in portions:
            partition = self._partitions.home(uid)
            limits = (MOST_LINES, MOST_BYTES, portion.skipped, keys.changes(partition))
            command = LOG.call([uid, keys.log(partition, uid)], (*limits, *portion.lines))
            by_partition.setdefault(partition, []).append(command)
        for partition, commands in by_partition.items():
            self._wire.call(partition, *commands)

    def read(self, uid: str, after: int = 0, count: int = AT_ONCE) -> Logged:
        """The lines behind the one with this number."""
        partition = self._partitions.of(uid)
        if partition is None:
            return Logged([], 0, 0)
        key = keys.log(partition, uid)
        found, last, length = self._wire.call(
            partition,
            ("XRANGE", key, f"{after + 1}-0", "+", "COUNT", count),
            ("XREVRANGE", key, "+", "-", "COUNT", 1),
            ("XLEN", key),
        )
        newest = _number(last[0][0]) if last else 0
        return Logged([_line(*entry) for entry in found], newest, max(0, newest - length))

    def attempts(self, uid: str) -> tuple[Document | None, list[Attempt]]:
        """The document, and all attempts from the oldest to that of which it tells."""
        partition = self._partitions.of(uid)
        if partition is None:
            return None, []
        command = ATTEMPTS.call([uid, keys.attempts(partition, uid)], [])
        [(text, earlier)] = self._wire.call(partition, command)
        found = document(uid, text)
        if found is None:
            return None, []
        latest = attempts.latest(found.task)
        return found, [*map(attempts.decode, earlier), *([latest] if latest else [])]


def _number(entry: bytes) -> int:
    return int(entry.partition(b"-")[0])


def _line(entry: bytes, fields: Sequence[bytes]) -> StoredLine:
    at, level, attempt, text = lines.decode(fields[1])
    return StoredLine(_number(entry), at, level, attempt, text)
