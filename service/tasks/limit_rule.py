"""What a limit says: by which key it counts, how many tasks of one key run at once, how many start in a time. Pure.

    {"key": "args.customer", "concurrency": 2, "rate": "100/minute", "burst": 5,
     "overrides": {"acme": {"concurrency": 8}}}

Each key has a place of its own, named `<limit>:<mode>:<digest>`: the mode stands for how the key is found, and the
digest for its value. So what was counted by another key is never taken for this one.
"""

import decimal
import hashlib
import re
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Raw

from service.errors import InvalidTask
from service.tasks import untyped
from service.tasks.declare import TaskType

MOST: Final = 1_000_000
MOST_OVERRIDES: Final = 1000
LONGEST_VALUE: Final = 500
LONGEST_KEY: Final = 500
LONGEST_NUMBER: Final = 30  # digits; a longer one is written with its exponent
EXACT: Final = decimal.Context(prec=decimal.MAX_PREC, Emin=decimal.MIN_EMIN, Emax=decimal.MAX_EMAX)
NONE: Final = "-"
END: Final = r"$(?!\n)"  # in Python, $ alone fits before a last newline, too
KEY: Final = re.compile(r"args(\.[A-Za-z_][A-Za-z0-9_]*)+")
RATE: Final = re.compile(r"([1-9][0-9]{0,6})/(second|minute|hour|day)")
AS_KEY: Final = "as in args.customer, or args.order.region; without one, all tasks are counted together"
AS_RATE: Final = "as in 100/minute; also /second, /hour and /day"
SECONDS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}


_Count = Annotated[int, Meta(ge=1, le=MOST)]
_Rate = Annotated[
    str, Meta(pattern=f"^{RATE.pattern}{END}", description="as in 100/minute; per second, minute, hour or day")
]
_Burst = Annotated[int, Meta(ge=1, le=MOST, description="so many may start at once after a quiet time")]


class Bounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How much of one key."""

    concurrency: _Count | None = None
    rate: _Rate | None = None
    burst: _Burst | None = None

    def numbers(self) -> str:
        """As the scripts read them: concurrency, microseconds between two starts, burst."""
        interval = NONE if self.rate is None else f"{interval_us(self.rate):.3f}"
        return f"{self.concurrency or NONE} {interval} {self.burst or 1}"


_Value = Annotated[str, Meta(max_length=LONGEST_VALUE)]
_Overrides = Annotated[dict[_Value, Bounds], Meta(max_length=MOST_OVERRIDES, description="by the key's value")]


class LimitRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    key: (
        Annotated[
            str,
            Meta(
                pattern=f"^{KEY.pattern}{END}",
                max_length=LONGEST_KEY,
                description="as in args.customer; none: one place for all",
            ),
        ]
        | None
    ) = None
    concurrency: _Count | None = None
    rate: _Rate | None = None
    burst: _Burst | None = None
    overrides: _Overrides = {}

    @property
    def mode(self) -> str:
        return mode(self.key)

    def bounds(self) -> Bounds:
        return Bounds(self.concurrency, self.rate, self.burst)

    def check(self) -> None:
        """Raises InvalidTask, naming the field, for what each field by itself does not show."""
        _check(self.bounds(), "")
        for value, bounds in self.overrides.items():
            _check(bounds, f"overrides.{value}.")
        if self.overrides and self.key is None:
            raise InvalidTask("overrides: they are by the key's value, and there is no key", field="overrides")


_decode_rule = msgspec.json.Decoder(LimitRule).decode


def _check(bounds: Bounds, where: str) -> None:
    if bounds.concurrency is None and bounds.rate is None:
        raise InvalidTask(f"{where}concurrency: give concurrency, or rate, or both", field="concurrency")
    if bounds.burst is not None and bounds.rate is None:
        raise InvalidTask(f"{where}burst: it goes with a rate", field="burst")


def stored(text: bytes) -> LimitRule:
    """A rule as it is stored. What a newer release says in it, and this one does not know, is passed over."""
    try:
        return _decode_rule(text)
    except msgspec.ValidationError:
        members = untyped.decode(text)
        members["overrides"] = {value: _known(own, Bounds) for value, own in members.get("overrides", {}).items()}
        return msgspec.convert(_known(members, LimitRule), LimitRule)


def _known(members: dict[str, Any], of: type[msgspec.Struct]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if name in of.__struct_fields__}


def interval_us(rate: str) -> float:
    """Microseconds between two starts."""
    count, _, period = rate.partition("/")
    return SECONDS[period] * 1_000_000 / int(count)


def mode(key: str | None) -> str:
    """Stands for how the key is found."""
    return _digest(key or "", 8)


def digest(value: str) -> str:
    """Stands for a key's value, of any length."""
    return _digest(value, 32)


def place(limit: str, key: str | None, value: str) -> str:
    return f"{limit}:{mode(key)}:{digest(value)}"


def unset(limit: str) -> str:
    """What is asked for where nobody has set the limit."""
    return f"{limit}::"


def is_set(places: str) -> bool:
    """Any of these, with blanks between, is the place of a limit that is set."""
    return any(not place.endswith("::") for place in places.split())


def partition(key: str | None, value: str, partitions: int) -> int:
    """Where tasks of this key lie. Limits with the same key agree; all those without a key do."""
    return int(_digest(f"{key or ''}\0{value}", 8), 16) % partitions


def value(key: str | None, task_type: TaskType, args: Raw) -> str:
    """The key's value as text: of a text itself, of anything else its JSON. It is the one that the handler gets,
    however the client has written it, with the default for what was left out; what is not there at all is `null`.
    """
    if key is None:
        return ""
    _, first, *further = key.split(".")
    found = _argument(task_type, args, first)
    for name in further:
        found = found.get(name) if isinstance(found, dict) else None
    found = _in_one_spelling(found)
    return found if isinstance(found, str) else msgspec.json.encode(found, order="deterministic").decode()


def _argument(task_type: TaskType, args: Raw, name: str) -> Any:
    try:
        found = getattr(task_type.decode(args), name, None)
        return msgspec.to_builtins(found, builtin_types=(datetime, Decimal), order="deterministic")
    except Exception:  # a dataclass of the team's may raise anything
        return untyped.decode(args).get(name)  # what the handler cannot take fails when it is run


def _in_one_spelling(found: Any) -> Any:
    """7.0 is 7, as a moment is the same one in each time zone."""
    if isinstance(found, float):
        return int(found) if found.is_integer() else found
    if isinstance(found, Decimal):
        if not found.is_finite():
            return str(found)
        shortest = found.normalize(EXACT) if found else Decimal(0)
        return f"{shortest:f}" if abs(shortest.adjusted()) < LONGEST_NUMBER else str(shortest)
    if isinstance(found, datetime):
        with suppress(OverflowError):  # in the first year, or the last one
            found = found.astimezone(UTC) if found.tzinfo else found
        return msgspec.to_builtins(found)
    if isinstance(found, list | tuple):
        return [_in_one_spelling(member) for member in found]
    if isinstance(found, dict):
        return {name: _in_one_spelling(member) for name, member in found.items()}
    return found


def _digest(text: str, length: int) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:length]
