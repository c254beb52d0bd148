"""What a limit says, as the texts of a form, and back. Bounds of single keys are lines:

    acme: concurrency=10, rate=5/second, burst=2

A value that a line cannot hold as it is stands there as JSON does it, in double quotes.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from service.errors import InvalidTask
from service.tasks.limit_rule import AS_KEY, AS_RATE, KEY, LONGEST_VALUE, MOST, MOST_OVERRIDES, RATE, Bounds, LimitRule

FIELDS: Final = ("key", "concurrency", "rate", "burst", "overrides")
BOUNDS: Final = ("concurrency", "rate", "burst")
NUMBER: Final = re.compile(r"[0-9]{1,7}")
_text = msgspec.json.Decoder(str).decode


def texts(limit: Mapping[str, Any]) -> dict[str, str]:
    """Of a limit as GET /limits/<name> describes it."""
    said = {name: "" if limit[name] is None else str(limit[name]) for name in FIELDS[:-1]}
    return said | {"overrides": "\n".join(_line(value, own) for value, own in limit["overrides"].items())}


def rule(form: Mapping[str, str]) -> LimitRule:
    """Raises InvalidTask, naming the field. What no field by itself shows is for the rule's own check."""
    given = {name: form.get(name, "").strip() for name in FIELDS}
    if given["key"] and not KEY.fullmatch(given["key"]):
        raise InvalidTask(f"key: {AS_KEY}", field="key")
    overrides = dict(_overrides(given["overrides"]))
    if len(overrides) > MOST_OVERRIDES:
        raise InvalidTask(f"overrides: at most {MOST_OVERRIDES:,} keys", field="overrides")
    return LimitRule(given["key"] or None, **_bounds({name: given[name] for name in BOUNDS}), overrides=overrides)


def _bounds(given: Mapping[str, str]) -> dict[str, Any]:
    """Of what is not empty."""
    return {name: _rate(text) if name == "rate" else _number(name, text) for name, text in given.items() if text}


def _number(name: str, text: str) -> int:
    if not NUMBER.fullmatch(text) or not 1 <= int(text) <= MOST:
        raise InvalidTask(f"{name}: a whole number from 1 to {MOST:,}", field=name)
    return int(text)


def _rate(text: str) -> str:
    if not RATE.fullmatch(text):
        raise InvalidTask(f"rate: {AS_RATE}", field="rate")
    return text


def _overrides(text: str) -> Iterator[tuple[str, Bounds]]:
    seen = set()
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            value, bounds = _read(line.strip())
            if value in seen:
                raise InvalidTask("this key has a line already")
        except InvalidTask as error:
            raise InvalidTask(f"overrides: line {number}: {error.detail}", field="overrides") from error
        seen.add(value)
        yield value, bounds


def _read(line: str) -> tuple[str, Bounds]:
    before, colon, after = line.rpartition(":")
    pairs = [pair.partition("=") for pair in after.split(",")]
    given = {name.strip(): text.strip() for name, _, text in pairs}
    if not colon or not given.keys() <= {*BOUNDS} or len(given) < len(pairs) or not all(given.values()):
        raise InvalidTask("as in acme: concurrency=10, rate=5/second, burst=2")
    value = _value(before.strip())
    if len(value) > LONGEST_VALUE:
        raise InvalidTask(f"a key's value has at most {LONGEST_VALUE} characters")
    return value, Bounds(**_bounds(given))


def _value(text: str) -> str:
    if not text.startswith('"'):
        return text
    try:
        return _text(text.encode())
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise InvalidTask("what begins with a double quote is JSON, and this is none") from error


def _line(value: str, own: Bounds) -> str:
    bounds = ", ".join(f"{name}={said}" for name in BOUNDS if (said := getattr(own, name)) is not None)
    is_plain = value and value == value.strip() and value.isprintable() and not value.startswith('"')
    return f"{value if is_plain else msgspec.json.encode(value).decode()}: {bounds}"
