"""A wire to a real Redis that fails on demand."""

from typing import Any

from service.errors import StoreUnavailable
from service.store import SCRIPTS
from service.store.connection import Command, connect


class FaultyWire:
    """The real wire; `lost` counts answers to be lost, `failure` comes instead of calls. `only`: of this command. The
    partition `away` cannot be reached.
    """

    def __init__(self, url: str) -> None:
        self._wire = connect(url, SCRIPTS)
        self.lost = 0
        self.failure: BaseException | None = None
        self.only = ""
        self.away: int | None = None

    def call(self, partition: int, *commands: Command, wait_seconds: float = 0, once: bool = False) -> list[Any]:
        if partition == self.away:
            raise StoreUnavailable("one partition is away")
        if self.only not in ("", commands[0][0]):
            return self._wire.call(partition, *commands, wait_seconds=wait_seconds, once=once)
        if self.failure is not None:
            raise self.failure
        answers = self._wire.call(partition, *commands, wait_seconds=wait_seconds, once=once)
        if self.lost:
            self.lost -= 1
            raise StoreUnavailable("the answer is lost")
        return answers

    def __getattr__(self, name: str) -> Any:
        return getattr(self._wire, name)
