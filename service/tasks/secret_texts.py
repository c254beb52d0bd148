"""The texts by which a secret value is recognised in logs and messages. Pure.

A program prints a text line by line. A message shows it as Python or JSON writes it, or one inside the other.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

SHORTEST: Final = 4  # a shorter one would be found in everything


def of(value: Any) -> Iterator[str]:
    """Of a JSON value."""
    if isinstance(value, dict | list):
        for member in value.values() if isinstance(value, dict) else value:
            yield from of(member)
    elif not isinstance(value, bool | None):
        told = str(value)
        for each in {told, *(line.strip() for line in told.replace("\r", "\n").split("\n"))}:
            if len(each) >= SHORTEST:
                yield from _forms(each)


def _forms(text: str) -> set[str]:
    found = {text}
    for _ in range(2):
        found |= {written for each in found for written in _written(each)}
    return found


def _written(text: str) -> Iterator[str]:
    """Without the quotes around it."""
    yield repr(text)[1:-1]
    yield repr(text + "'\"")[1:-4]  # beside both kinds of quotes
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
