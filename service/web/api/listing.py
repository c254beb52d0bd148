"""The query of GET /tasks. Its cursor is the place of the last task that the page before looked at."""

import re
from collections.abc import Collection
from typing import Final

from werkzeug.datastructures import MultiDict

from service.store import Filter, Position
from service.tasks.document import SHOWN_STATUSES
from service.web.problem import wrong

DEFAULT_LIMIT: Final = 50
HIGHEST_LIMIT: Final = 100
FILTERS: Final = Filter._fields
NAMES: Final = (*FILTERS, "limit", "cursor")
CURSOR: Final = re.compile(r"([0-9]{1,16})-([0-9a-f]{64})")
NUMBER: Final = re.compile(r"[0-9]{1,9}")


def query(parameters: MultiDict[str, str]) -> tuple[int, Position | None, Filter]:
    check_names(parameters, NAMES)
    status = parameters.get("status")
    if status is not None and status not in SHOWN_STATUSES:
        raise wrong(f"status: one of {', '.join(SHOWN_STATUSES)}", field="status")
    only = Filter(*map(parameters.get, FILTERS))
    return _limit(parameters.get("limit")), _position(parameters.get("cursor")), only


def check_names(parameters: MultiDict[str, str], allowed: Collection[str]) -> None:
    for name, values in parameters.lists():
        if name not in allowed:
            raise wrong(
                f"{name[:100]}: not a parameter here; these are: {', '.join(sorted(allowed))}", field=name[:100]
            )
        if len(values) > 1:
            raise wrong(f"{name}: give it once", field=name)


def cursor(position: Position | None) -> str | None:
    return f"{position.created}-{position.uid}" if position else None


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT_LIMIT
    if not NUMBER.fullmatch(text) or not 1 <= int(text) <= HIGHEST_LIMIT:
        raise wrong(f"limit: a number from 1 to {HIGHEST_LIMIT}", field="limit")
    return int(text)


def _position(text: str | None) -> Position | None:
    if text is None:
        return None
    found = CURSOR.fullmatch(text)
    if found is None:
        raise wrong("cursor: take `next` of the page before", field="cursor")
    return Position(int(found[1]), found[2])
