"""A duty: brings what the journal has counted into the history, and the marks that circusd has left.

What is not taken now is sent again, and added once. At the end of the process what is left is brought, too.
"""

import logging
from pathlib import Path
from typing import Final, NamedTuple

from service.errors import SandboxError, StoreRefused
from service.observe import marks
from service.runner.upkeep import Upkeep
from service.store import Store, Tally
from service.store.tally import Counted

FLUSH_SECONDS: Final = 5.0
MOST_UNSENT: Final = 720  # an hour without Redis
MARK_SECONDS: Final = 2.0

log = logging.getLogger("sandbox.runner")


class _Batch(NamedTuple):
    number: int
    counted: list[Counted]


class Counting:
    def __init__(self, store: Store, tally: Tally, writer: str, run: Path | None) -> None:
        """`run` is the folder of what matters only while the service runs."""
        self._history = store.history
        self._tally = tally
        self._writer = writer
        self._run = run
        self._number = 0
        self._unsent: list[_Batch] = []

    def register(self, upkeep: Upkeep) -> None:
        upkeep.every(FLUSH_SECONDS, self.flush)
        if self._run is not None:
            upkeep.every(MARK_SECONDS, self.take_marks)

    def flush(self) -> None:
        if counted := self._tally.take():
            self._number += 1
            self._unsent.append(_Batch(self._number, counted))
            del self._unsent[:-MOST_UNSENT]
        while self._unsent:
            try:
                self._history.add(self._writer, *self._unsent[0])
            except StoreRefused as error:  # it would be refused again, and all that comes after it would wait
                log.warning("%s; some counts are missing in the history", error, extra={"once": "history"})
            del self._unsent[0]

    def end(self) -> str:
        """The last flush. Returns why it failed, if it has."""
        try:
            self.flush()
        except SandboxError as error:
            return str(error)
        return ""

    def take_marks(self) -> None:
        """Two runners may take the same mark: it is the same line then."""
        if self._run is not None:
            for mark in marks.left(self._run):
                self._history.mark(mark.at, mark.facts)
                mark.path.unlink(missing_ok=True)
