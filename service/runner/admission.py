"""Admits tasks that wait for a rate when they are due, and clears places that are taken up by nobody."""

import time
from collections.abc import Iterator
from typing import Final

from service.runner.upkeep import Upkeep
from service.store import Store

SERVE_SECONDS: Final = 0.2
QUIET_SECONDS: Final = 2.0
VACATE_SECONDS: Final = 5.0
SLICE_SECONDS: Final = 0.1


class Admission:
    def __init__(self, store: Store) -> None:
        self._store = store
        self._next = 0.0
        self._vacating: Iterator[int] | None = None  # how far it has looked

    def register(self, upkeep: Upkeep) -> None:
        """A runner without limited types looks seldom: only for what another release has left waiting."""
        if self._store.limits.types:
            upkeep.every(0.0, self.serve_when_due)
        else:
            upkeep.every(QUIET_SECONDS, self.serve)
        upkeep.every(VACATE_SECONDS, self.vacate)

    def serve_when_due(self) -> None:
        """It is known when the next one is due, but for those who came since the last look."""
        if (now := time.monotonic()) >= self._next:
            self._next = now + SERVE_SECONDS
            self._next = now + min(SERVE_SECONDS, self._store.limits.serve())

    def serve(self) -> bool:
        """Returns whether there is more."""
        return self._store.limits.serve() == 0

    def vacate(self) -> bool:
        """One runner of all does it, in slices: leases must not wait for it. Returns whether there is more."""
        if self._vacating is None:
            if not self._store.is_my_turn(0, "vacate", int(VACATE_SECONDS * 900)):
                return False
            self._vacating = self._store.limits.vacate()
        until = time.monotonic() + SLICE_SECONDS
        for _ in self._vacating:
            if time.monotonic() > until:
                return True
        self._vacating = None
        return False
