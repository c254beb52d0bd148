"""Tells which types this runner knows, and brings back what stands in lots and need not any more."""

from collections.abc import Sequence
from typing import Final

from service.runner.upkeep import Upkeep
from service.store import Store

TELL_SECONDS: Final = 30.0
UNPARK_SECONDS: Final = 1.0


class Parking:
    def __init__(self, store: Store, *, types: Sequence[str]) -> None:
        self._store = store
        self._types = types
        self._every = min(TELL_SECONDS, store.lots.known_seconds / 3)

    def register(self, upkeep: Upkeep) -> None:
        upkeep.every(self._every, self.tell)
        upkeep.every(UNPARK_SECONDS, self.unpark)

    def tell(self) -> None:
        self._store.lots.tell(self._types)

    def unpark(self) -> bool:
        """Returns whether there may be more."""
        return bool(self._store.lots.unpark())
