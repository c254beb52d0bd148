"""A form for a type's arguments, made from their JSON schema; and from what it sends back to arguments.

What a person leaves empty is not sent, so that the handler's own default counts. Numbers stay as they are typed. For an
argument that may be anything, what is no JSON is text.
"""

import json
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from service.errors import InvalidTask
from service.observe.scrubber import REMOVED
from service.web.page import shown
from service.web.page.shown import Number

PREFIX: Final = "arg:"
TEXT, NUMBER, TRUTH, CHOICE, JSON, ANY = "text", "number", "truth", "choice", "json", "any"
KINDS: Final = {"string": TEXT, "integer": NUMBER, "number": NUMBER, "boolean": TRUTH}
LONG_TEXT: Final = 60
BEGINNINGS: Final = ("{", "[", '"')  # of what was meant to be JSON


class Field(NamedTuple):
    """One argument, as the form shows it."""

    name: str
    kind: str
    required: bool
    default: str
    choices: list[str]
    value: str

    @property
    def long(self) -> bool:
        return self.kind in (JSON, ANY) or len(self.value) > LONG_TEXT or "\n" in self.value


def fields(schema: Mapping[str, Any], values: Mapping[str, str]) -> list[Field]:
    """`values` are texts as a form sends them."""
    required = schema.get("required", ())
    return [
        _field(schema, name, member, name in required, values.get(PREFIX + name, ""))
        for name, member in schema.get("properties", {}).items()
    ]


def texts(args: Any, schema: Mapping[str, Any]) -> dict[str, str]:
    """These arguments as the form would send them."""
    if not isinstance(args, dict):
        return {}  # no client could have sent such ones
    kinds = {field.name: field.kind for field in fields(schema, {})}
    return {PREFIX + name: _text(value, kinds.get(name)) for name, value in args.items()}


def kept(args: Any, schema: Mapping[str, Any], sent: Mapping[str, str]) -> dict[str, Any]:
    """Of these arguments, those that the form shows as nothing, and that it has sent back so: a null, an empty text."""
    empty = {name for name, text in texts(args, schema).items() if not (text + sent.get(name, "?")).strip()}
    return {name: value for name, value in args.items() if PREFIX + name in empty} if empty else {}


def read(schema: Mapping[str, Any], sent: Mapping[str, str]) -> dict[str, Any]:
    """The arguments. Raises InvalidTask, naming the one that cannot be read."""
    found = {}
    for field in fields(schema, sent):
        if field.value.strip() or (field.required and field.kind == TEXT):
            found[field.name] = _read(field)
    return found


def parsed(text: str) -> dict[str, Any]:
    """Arguments that were typed as JSON."""
    try:
        value = shown.parsed(text.encode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise InvalidTask(f"the JSON cannot be read: {error}", field="args") from None
    if not isinstance(value, dict):
        raise InvalidTask('write a JSON object, as in {"month": "May"}', field="args")
    return value


def _field(schema: Mapping[str, Any], name: str, member: Mapping[str, Any], required: bool, value: str) -> Field:
    kind, choices = _kind(schema, member)
    default = json.dumps(member["default"], ensure_ascii=False) if "default" in member else ""
    return Field(name, kind, required, default, choices, value)


def _kind(schema: Mapping[str, Any], member: Mapping[str, Any]) -> tuple[str, list[str]]:
    if "$ref" in member:
        return _kind(schema, schema.get("$defs", {}).get(member["$ref"].rpartition("/")[2], {}))
    kinds = [each for each in member.get("anyOf", ()) if each.get("type") != "null"]
    if len(kinds) == 1:
        return _kind(schema, kinds[0])
    if "enum" in member:
        return CHOICE, [json.dumps(choice, ensure_ascii=False) for choice in member["enum"]]
    if not {"type", "anyOf", "oneOf", "allOf", "const"} & member.keys():
        return ANY, []
    return KINDS.get(member.get("type", ""), JSON), []


def _read(field: Field) -> Any:
    if field.value.strip() == REMOVED:
        return REMOVED
    if field.kind == TEXT:
        return field.value.replace("\r\n", "\n")
    try:
        value = shown.parsed(field.value.strip().encode("utf-8", "replace"))
    except (ValueError, RecursionError):
        if field.kind == ANY and not field.value.lstrip().startswith(BEGINNINGS):
            return field.value.replace("\r\n", "\n")
        raise InvalidTask(f"{field.name}: {_wanted(field)}", field=field.name) from None
    if field.kind == NUMBER and not isinstance(value, Number):
        raise InvalidTask(f"{field.name}: {_wanted(field)}", field=field.name)
    return value


def _wanted(field: Field) -> str:
    return "write a number" if field.kind == NUMBER else 'write JSON, with texts in quotes, as in ["a", "b"]'


def _text(value: Any, kind: str | None) -> str:
    if value is None and kind in (TEXT, NUMBER, TRUTH, CHOICE):
        return ""
    is_plain = _is_text(value) and (value == REMOVED or kind == TEXT)
    return value if is_plain else shown.written(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not isinstance(value, Number)
