"""A task's UID, made so that its key lies in a wanted slot of a Redis Cluster.

docs/store.md, One slot.
"""

import binascii
import hashlib
import os
from array import array
from typing import Final

SLOTS: Final = 16384
_HEX: Final = b"0123456789abcdef"


def slot(key: bytes) -> int:
    """Where Redis Cluster places a key without braces."""
    return binascii.crc_hqx(key, 0) % SLOTS


_TAILS: Final = [bytes((a, b)) for a in _HEX for b in _HEX]
_TAIL_SLOTS: Final = [slot(tail) for tail in _TAILS]
_MIDDLES: Final = array("H", bytes(2 * SLOTS))  # by slot: three hex characters as a number, plus 1; 0 if none lie there
for _number in range(16**3):
    _MIDDLES[slot(b"%03x\0\0" % _number)] = _number + 1


def steer(prefix: str, wanted: int) -> str:
    """The prefix, and five hex characters that bring it into the wanted slot.

    CRC-16 is linear: slot(prefix + suffix) = slot(prefix + zeros) xor slot(suffix). The suffix splits in the same way:
    its last two characters are tried in turn, and a table has the three before them.
    """
    missing = slot(prefix.encode() + b"\0\0\0\0\0") ^ wanted
    for tail, tail_slot in zip(_TAILS, _TAIL_SLOTS, strict=True):
        if middle := _MIDDLES[missing ^ tail_slot]:
            return f"{prefix}{middle - 1:03x}{tail.decode()}"
    raise AssertionError(f"no suffix reaches slot {wanted}")  # never: five characters reach all 16,384


def random_prefix() -> str:
    return os.urandom(30).hex()[:59]


def prefix_for(caller: str, key: str, index: int = 0) -> str:
    """The UID's first 59 characters for a caller's Idempotency-Key and the place in a batch.

    The lengths keep apart what would read the same in a row, such as caller "a" with key "bc", and "ab" with "c".
    """
    seed = f"{len(caller)}:{caller}{len(key)}:{key}{index}"
    return hashlib.sha256(seed.encode()).hexdigest()[:59]


def prefix_for_child(parent: str, key: str | int) -> str:
    """The same of a task that a handler creates: by the UID of the handler's own task, and a key or a number."""
    kind = "number" if isinstance(key, int) else "key"
    return hashlib.sha256(f"child of {parent}, {kind} {key}".encode()).hexdigest()[:59]
