"""What is wrong with a body, for people: which field, what is wrong with its value, what is allowed, and an example.

msgspec finds the fault, and says it in words of its own. What is allowed stands in the types that it has checked
against, and so nothing is written down twice.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final, NamedTuple

from msgspec import ValidationError, inspect

from service.web.problem import Problem, wrong

MOMENT: Final = "2026-12-24T18:00:00+01:00"
NUMBERS: Final = (3, 60, 1000)  # examples
LONGEST_NAME: Final = 100
PLACE: Final = re.compile(r" - at (`key` in )?`\$(.*)`$", re.DOTALL)
STEP: Final = re.compile(r"\[(\d+|\.\.\.)\]|\.([A-Za-z_]\w*)")
FIELD: Final = re.compile(r"Object (contains unknown|missing required) field `(.*)`$", re.DOTALL)
GOT: Final = re.compile(r"Expected `.*`, got `(\w+)`$")
CHOICE: Final = re.compile(r"Invalid enum value (\S{1,50})")
BOUND: Final = re.compile(r"Expected `(\w+)`( of length)? ([<>]=?) ")
KINDS: Final = {
    "str": "a text", "int": "a number", "float": "a number with a fraction", "bool": "true or false", "null": "null",
    "array": "a list", "object": "an object",
}  # fmt: skip
FAULTS: Final = (
    ("matching regex", "this text has another form"),
    ("with a timezone component", "it lacks its offset from UTC"),
    ("Invalid RFC3339", "this is no moment"),
)


class Fault(NamedTuple):
    """`field` is the first one on the way, and `place` the whole way, without the number of a task in a batch."""

    text: str
    field: str | None
    place: str
    task: int | None


def problem(error: ValidationError, kind: Any) -> Problem:
    """As in `tasks[3].delay: the number is too small; allowed is …`. `kind` is what the body was to be."""
    fault = _found(error, kind)
    batch = f"tasks[{fault.task}]" if fault.task is not None else ""
    where = ".".join(filter(None, (batch, fault.place))) or "the body"
    return wrong(f"{where}: {fault.text}", field=fault.field, index=fault.task)


def _found(error: ValidationError, kind: Any) -> Fault:
    message = str(error)
    place = PLACE.search(message)
    reason = message[: place.start()] if place else message
    steps = [(step[1], step[2]) for step in STEP.finditer(place[2])] if place else []
    here = _type_at(_info(kind), steps)
    task = int(steps[0][0]) if steps and (steps[0][0] or "").isdigit() else None
    names = [name for _, name in steps if name]
    named = FIELD.fullmatch(reason)
    if named is not None:
        names.append(named[2][:LONGEST_NAME])
        text = _of_a_field(named[1] == "missing required", named[2], here)
    elif place and place[1]:
        text = f"{_fault(reason)}: a name in it; allowed is {_described(_key_of(here))}"
    else:
        text = f"{_fault(reason)}; allowed is {_described(here)}"
    return Fault(text, names[0] if names else None, ".".join(names), task)


@lru_cache(maxsize=64)
def _info(kind: Any) -> inspect.Type:
    return inspect.type_info(kind)


def _of_a_field(is_missing: bool, name: str, parent: inspect.Type) -> str:
    fields = {field.encode_name: field for field in _fields(parent)}
    if is_missing and name in fields:
        return f"it is missing; it is {_described(fields[name].type)}"
    return f"there is no such field here; these are: {', '.join(fields)}"


def _fault(reason: str) -> str:
    if got := GOT.fullmatch(reason):
        return f"{KINDS.get(got[1], got[1])} was sent"
    if bound := BOUND.match(reason):
        is_low = bound[3].startswith(">")
        if bound[2] is None:
            return f"the number is too {'small' if is_low else 'large'}"
        if bound[1] == "str":
            return f"the text is too {'short' if is_low else 'long'}"
        return f"it has too {'few' if is_low else 'many'} members"
    if choice := CHOICE.fullmatch(reason):
        return f"{choice[1]} is none of them"
    return next((ours for theirs, ours in FAULTS if theirs in reason), "this value does not fit")


# --- what is allowed -------------------------------------------------------------------------------------------------


def _type_at(here: inspect.Type, steps: list[tuple[str | None, str | None]]) -> inspect.Type:
    for _, name in steps:
        here = next(_inside(here, name), here)
    return here


def _inside(here: inspect.Type, name: str | None) -> Iterator[inspect.Type]:
    """Of the field of this name; without one, of the members of a list or an object."""
    for each in _kinds(here):
        if name:
            yield from (field.type for field in _fields(each) if field.encode_name == name)
        elif isinstance(each, inspect.ListType | inspect.VarTupleType):
            yield each.item_type
        elif isinstance(each, inspect.DictType):
            yield each.value_type


def _kinds(here: inspect.Type) -> Iterator[inspect.Type]:
    if isinstance(here, inspect.Metadata):
        yield from _kinds(here.type)
    elif isinstance(here, inspect.UnionType):
        for each in here.types:
            yield from _kinds(each)
    else:
        yield here


def _fields(here: inspect.Type) -> tuple[inspect.Field, ...]:
    return next((each.fields for each in _kinds(here) if isinstance(each, inspect.StructType)), ())


def _key_of(here: inspect.Type) -> inspect.Type:
    return next((each.key_type for each in _kinds(here) if isinstance(each, inspect.DictType)), here)


def _described(here: inspect.Type) -> str:
    if isinstance(here, inspect.UnionType):
        return " or ".join(map(_described, sorted(here.types, key=lambda each: not isinstance(each, inspect.NoneType))))
    if isinstance(here, inspect.Metadata):
        more = (here.extra_json_schema or {}).get("description")
        is_by_pattern = isinstance(here.type, inspect.StrType) and here.type.pattern
        plainly = "a text" if more and is_by_pattern else _described(here.type)  # the words say more than the pattern
        return f"{plainly} ({more})" if more else plainly
    return _plainly(here)


def _plainly(here: inspect.Type) -> str:
    if isinstance(here, inspect.StrType):
        return f"a text{_length(here, 'character')}" + (f" that matches {here.pattern}" if here.pattern else "")
    if isinstance(here, inspect.IntType | inspect.FloatType):
        return _number(here)
    if isinstance(here, inspect.LiteralType):
        return f"one of {', '.join(map(str, here.values))}"
    if isinstance(here, inspect.DateTimeType):
        return f"a moment with its offset from UTC, as in {MOMENT}"
    if isinstance(here, inspect.ListType | inspect.VarTupleType):
        return f"a list{_length(here, 'member')}, each of them {_described(here.item_type)}"
    if isinstance(here, inspect.StructType):
        return f"an object with {', '.join(field.encode_name for field in here.fields)}"
    if isinstance(here, inspect.DictType):
        return f"an object, each value of which is {_described(here.value_type)}"
    return {inspect.BoolType: "true or false", inspect.NoneType: "null"}.get(type(here), "any JSON")


def _length(here: Any, what: str) -> str:
    low, high = here.min_length, here.max_length
    if high is None:
        return f" of {low} {what}s or more" if low else ""
    return f" of {low} to {high} {what}s" if low else f" of at most {high} {what}s"


def _number(here: inspect.IntType | inspect.FloatType) -> str:
    words = "a whole number" if isinstance(here, inspect.IntType) else "a number"
    low = here.ge if here.ge is not None else here.gt
    high = here.le if here.le is not None else here.lt
    if low is not None:
        words += f" {'from' if here.ge is not None else 'above'} {low:g}"
    if high is not None:
        words += f"{' to' if here.ge is not None else ', up to'} {high:.12g}"
    fits = [each for each in NUMBERS if (low is None or each > low) and (high is None or each <= high)]
    return f"{words}, as in {fits[0]}" if fits else words
