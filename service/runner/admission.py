"""Admits tasks that wait for a rate when they are due, and clears places that are taken up by nobody."""

from typing import Final

from service.runner.upkeep import Upkeep
from service.store import Store

SERVE_SECONDS: Final = 0.2
QUIET_SECONDS: Final = 2.0
VACATE_SECONDS: Final = 5.0


class Admission:
    def __init__(self, store: Store) -> None:
        self._store = store

    def register(self, upkeep: Upkeep) -> None:
        """A runner without limited types looks seldom: only for what another release has left waiting."""
        upkeep.every(SERVE_SECONDS if self._store.limits.types else QUIET_SECONDS, self.serve)
        upkeep.every(VACATE_SECONDS / 5, self.vacate)

    def serve(self) -> bool:
        """Returns whether there may be more."""
        return self._store.limits.serve()

    def vacate(self) -> None:
        """One runner of all does it."""
        if self._store.limits.types and self._store.is_my_turn(0, "vacate", int(VACATE_SECONDS * 900)):
            self._store.limits.vacate()
