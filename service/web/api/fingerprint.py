"""A short text that is equal for requests that are equal as JSON."""

import hashlib
from typing import Any

import msgspec

from service.web.problem import Problem

_encode = msgspec.json.Encoder(order="sorted").encode


def of(request: Any) -> str:
    try:
        text = _encode(_canonical(request))
    except RecursionError as error:
        raise Problem(400, "the body is nested too deeply") from error
    return hashlib.blake2b(text, digest_size=12).hexdigest()


def _canonical(value: Any) -> Any:
    """1 and 1.0 are the same number in JSON."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _canonical(member) for name, member in value.items()}
    if isinstance(value, list):
        return [_canonical(member) for member in value]
    return value
