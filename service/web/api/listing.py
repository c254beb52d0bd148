"""What a client asks the list for: filters, as the query of GET /tasks or as a body; limit; cursor.

The cursor is the place of the last task that the page before looked at.
"""

import re
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec
from msgspec import UNSET, Meta, UnsetType
from werkzeug.datastructures import MultiDict

from service.store import Filter, Position
from service.store.selection import UID_BEGINNING, argument
from service.tasks import moments
from service.tasks.document import SHOWN_STATUSES
from service.web.api.uids import UID
from service.web.problem import wrong

DEFAULT_LIMIT: Final = 50
HIGHEST_LIMIT: Final = 100
FILTERS: Final = Filter.__struct_fields__
SEVERAL: Final = ("type", "queue", "status")  # may be given several times, or with commas in between
NAMES: Final = (*FILTERS, "limit", "cursor")
LONGEST: Final = 300  # of a text, in characters
CURSOR: Final = re.compile(r"([0-9]{1,16})-([0-9a-f]{64})")
NUMBER: Final = re.compile(r"[0-9]{1,9}")
EPOCH: Final = datetime.fromtimestamp(0, UTC)
LATEST: Final = datetime(2200, 1, 1, tzinfo=UTC)  # its microseconds are a number that Redis's scores can hold

_text = Annotated[str, Meta(max_length=LONGEST)]
_texts = _text | Annotated[list[_text], Meta(min_length=1, max_length=100)]
_to_moment = msgspec.json.Decoder(Annotated[datetime, Meta(tz=True)]).decode
_as_json = msgspec.json.Encoder().encode


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    """The filter of POST /tasks/retry and POST /tasks/cancel."""

    type: _texts | UnsetType = UNSET
    queue: _texts | UnsetType = UNSET
    status: _texts | UnsetType = UNSET
    created_by: _text | UnsetType = UNSET
    created_after: _text | UnsetType = UNSET
    created_before: _text | UnsetType = UNSET
    error: _text | UnsetType = UNSET
    q: _text | UnsetType = UNSET
    parent: _text | UnsetType = UNSET
    schedule: _text | UnsetType = UNSET
    dry_run: bool = False

    def filter(self) -> Filter:
        """Raises a problem that names the field. Without any it would mean everything that there is."""
        given = {name: value for name in FILTERS if (value := getattr(self, name)) is not UNSET}
        if not given:
            raise wrong(f"send at least one of {', '.join(FILTERS)}: what they admit is acted on")
        return _filter({name: [value] if isinstance(value, str) else value for name, value in given.items()})


def query(parameters: MultiDict[str, str]) -> tuple[int, Position | None, Filter]:
    check_names(parameters, NAMES, SEVERAL)
    only = _filter({name: values for name, values in parameters.lists() if name in FILTERS})
    return _limit(parameters.get("limit")), _position(parameters.get("cursor")), only


def check_names(parameters: MultiDict[str, str], allowed: Collection[str], several: Collection[str] = ()) -> None:
    for name, values in parameters.lists():
        if name not in allowed:
            raise wrong(
                f"{name[:100]}: not a parameter here; these are: {', '.join(sorted(allowed))}", field=name[:100]
            )
        if len(values) > 1 and name not in several:
            raise wrong(f"{name}: give it once", field=name)


def cursor(position: Position | None) -> str | None:
    return f"{position.created}-{position.uid}" if position else None


def moment(text: str, field: str) -> str:
    """A client's moment as documents hold them."""
    try:
        given = _to_moment(_as_json(text))
    except (msgspec.MsgspecError, ValueError) as error:
        raise wrong(f"{field}: a moment with its offset, as in 2026-11-20T23:47:58Z", field=field) from error
    return moments.stamp_exactly((min(max(given, EPOCH), LATEST) - EPOCH) // datetime.resolution)


def _filter(given: dict[str, Sequence[str]]) -> Filter:
    return Filter(**{name: _READ[name](values, name) for name, values in given.items()})


def _names(values: Sequence[str], field: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for value in values for name in value.split(",")))


def _statuses(values: Sequence[str], field: str) -> tuple[str, ...]:
    names = _names(values, field)
    if not set(names) <= {*SHOWN_STATUSES}:
        raise wrong(f"{field}: one or more of {', '.join(SHOWN_STATUSES)}", field=field)
    return names


def _one(values: Sequence[str], field: str) -> str:
    return values[0]


def _moment(values: Sequence[str], field: str) -> str:
    return moment(values[0], field)


def _uid(values: Sequence[str], field: str) -> str:
    if not UID.fullmatch(values[0]):
        raise wrong(f"{field}: a whole UID, which is 64 characters", field=field)
    return values[0]


def _search(values: Sequence[str], field: str) -> str:
    text = values[0]
    if not (UID_BEGINNING.fullmatch(text) or argument(text)):
        raise wrong(f"{field}: the beginning of a UID (8 characters or more), or args.name=value", field=field)
    return text


_READ: Final[dict[str, Callable[[Sequence[str], str], Any]]] = {
    "type": _names,
    "queue": _names,
    "status": _statuses,
    "created_by": _one,
    "created_after": _moment,
    "created_before": _moment,
    "error": _one,
    "q": _search,
    "parent": _uid,
    "schedule": _one,
}


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
