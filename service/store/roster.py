"""Who executes tasks now. Each runner writes every few seconds what it does; that lives for a little longer.

All of it lies in the slot of partition 0.
"""

import time
from typing import Final

import msgspec

from service.store import keys
from service.store.connection import Wire

LIVES_SECONDS: Final = 10

_encode = msgspec.json.Encoder().encode


class Executing(msgspec.Struct):
    """A task that a lane executes, and since when."""

    uid: str
    type: str
    queue: str
    since: str


class AtWork(msgspec.Struct):
    """A runner, as it was a moment ago. A newer release may tell more."""

    runner: str
    host: str
    pid: int
    release: str
    started_at: str
    memory: int  # resident bytes
    queues: list[str]
    threads: int
    executing: list[Executing]
    reads: int = 1  # the newest layout that it can read; older releases do not tell


_decode = msgspec.json.Decoder(AtWork).decode


class Roster:
    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def enter(self, at_work: AtWork) -> None:
        name, line = at_work.runner, _encode(at_work)
        self._wire.call(
            0,
            ("SET", keys.at_work(name), line, "EX", LIVES_SECONDS),
            ("ZADD", keys.roster(), int(time.time()), name),
        )

    def leave(self, runner: str) -> None:
        self._wire.call(0, ("DEL", keys.at_work(runner)), ("ZREM", keys.roster(), runner))

    def vouch(self, runner: str) -> None:
        """It lives, though it cannot say so itself."""
        self._wire.call(0, ("EXPIRE", keys.at_work(runner), LIVES_SECONDS))

    def at_work(self) -> list[AtWork]:
        """In the order of their names. Names of those that are gone are removed."""
        [names] = self._wire.call(0, ("ZRANGE", keys.roster(), 0, -1))
        if not names:
            return []
        [lines] = self._wire.call(0, ("MGET", *[keys.at_work(name.decode()) for name in names]))
        if gone := [name for name, line in zip(names, lines, strict=True) if line is None]:
            self._wire.call(0, ("ZREM", keys.roster(), *gone))
        return sorted((_decode(line) for line in lines if line is not None), key=lambda each: each.runner)
