"""The filters of the list, for the fake: which documents they admit."""

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

Json = Mapping[str, Any]
_moment: Final = datetime.fromisoformat


def admits(query: Mapping[str, str], document: Json) -> bool:
    return all(admits_it(document, query[name]) for name, admits_it in _FILTERS.items() if name in query)


def _member(name: str) -> Callable[[Json, str], bool]:
    return lambda document, wanted: document[name] in wanted.split(",")


def _argument(document: Json, wanted: str) -> bool:
    if not wanted.startswith("args."):
        return bool(document["uid"].startswith(wanted))
    path, _, text = wanted.removeprefix("args.").partition("=")
    value: Any = document["args"]
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    return value is not None and text in (value, json.dumps(value))


_FILTERS: Final[dict[str, Callable[[Json, str], bool]]] = {
    "status": _member("status"),
    "type": _member("type"),
    "queue": _member("queue"),
    "created_by": lambda document, wanted: document["created_by"] == wanted,
    "parent": lambda document, wanted: document["parent"] == wanted,
    "schedule": lambda document, wanted: document["schedule"] == wanted,
    "created_after": lambda document, wanted: _moment(document["created_at"]) >= _moment(wanted),
    "created_before": lambda document, wanted: _moment(document["created_at"]) < _moment(wanted),
    "error": lambda document, wanted: (document["error"] or {}).get("type") == wanted,
    "q": _argument,
}
