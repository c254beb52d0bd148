"""What is sent to a Redis, and what the store needs of a connection to it."""

import hashlib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias

Argument: TypeAlias = str | bytes | int | float
Command: TypeAlias = Sequence[Argument]


LUA: Final = Path(__file__).parents[1] / "lua"
PARTS: Final = re.compile(r"^-- uses (\w+)\.lua$", re.MULTILINE)


class Script:
    """A Lua file, behind the parts that it uses, called by its digest and sent whole only where the server does not
    know it.
    """

    def __init__(self, name: str, *, when_full: bool = False) -> None:
        """`when_full`: Redis is to run it also when it is out of memory."""
        text = _read(name)
        self.text = b"".join([*(_read(part) for part in PARTS.findall(text.decode())), text])
        if when_full:
            self.text = b"#!lua flags=allow-oom\n" + self.text
        self.digest = hashlib.sha1(self.text, usedforsecurity=False).hexdigest()

    def call(self, keys: Sequence[Argument], arguments: Iterable[Argument]) -> Command:
        return ("EVALSHA", self.digest, len(keys), *keys, *arguments)


def _read(name: str) -> bytes:
    return (LUA / f"{name}.lua").read_bytes()


class Wire(Protocol):
    """What the store needs of a Redis: it sends commands for one partition, and returns the answers in their order."""

    def call(self, partition: int, *commands: Command, wait_seconds: float = 0, once: bool = False) -> list[Any]: ...

    def together(self, partitions: int) -> list[list[int]]:
        """The partitions in groups: keys of one group may stand in one command."""
        return [[partition] for partition in range(partitions)]

    def subscribe(self, partition: int, channel: str) -> "Subscription":
        """Listens to a shard channel that lies in the partition's slot."""
        ...

    def close(self) -> None: ...


class Subscription(Protocol):
    """One connection that listens to one channel."""

    def next(self, seconds: float) -> bytes | None:
        """The next message, or None if there is none for so long. Raises StoreUnavailable when it is cut off."""
        ...

    def close(self) -> None: ...


class Scripts:
    """The texts behind the digests, for a server that has forgotten them."""

    def __init__(self, scripts: Iterable[Script]) -> None:
        self._texts = {script.digest: script.text for script in scripts}

    def reload(self, command: Command) -> Command:
        return ("EVAL", self._texts[str(command[1])], *command[2:])


def rows(flat: Sequence[Any], width: int) -> Iterable[tuple[Any, ...]]:
    """Scripts return flat lists, which Redis and redis-py pass on fastest."""
    return zip(*[iter(flat)] * width, strict=True)
