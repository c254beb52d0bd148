"""A task's arguments as words: `name=value` and `name:=JSON`.

What `name=value` means depends on the type's schema. Where the schema allows a text, it is the text as it stands;
otherwise it is read as JSON: rows=10, verbose=true. Where the schema allows anything, it is JSON if it can be read as
such, or else the text. `name:=JSON` is always JSON.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

KINDS: Final = {str: "string", bool: "boolean", int: "integer", float: "number", type(None): "null"}


def given(text: str | None) -> dict[str, Any]:
    """What `--args` says: a JSON object, or `-` for one on standard input."""
    if text is None:
        return {}
    try:
        found = json.loads(sys.stdin.read() if text == "-" else text)
    except ValueError as error:
        raise click.UsageError(f"--args holds no JSON: {error}.") from error
    except RecursionError as error:
        raise click.UsageError("--args is nested too deeply.") from error
    if not isinstance(found, dict):
        raise click.UsageError('--args holds no JSON object, as in \'{"month": "May"}\'.')
    return found


def read(words: Sequence[str], schema: Mapping[str, Any]) -> dict[str, Any]:
    return dict(_read_one(word, schema) for word in words)


def _read_one(word: str, schema: Mapping[str, Any]) -> tuple[str, Any]:
    name, equals, text = word.partition("=")
    if not equals or not name.removesuffix(":"):
        raise click.UsageError(f"{word!r} is no argument of a task; write NAME=VALUE or NAME:=JSON.")
    if name.endswith(":"):
        return name[:-1], _json(name[:-1], text, "JSON")
    allowed = kinds(schema.get("properties", {}).get(name, {}), schema.get("$defs", {}))
    if "string" in allowed:
        return name, text
    if allowed:
        return name, _json(name, text, " or ".join(sorted(allowed)))
    try:
        return name, json.loads(text)
    except (ValueError, RecursionError):
        return name, text


def _json(name: str, text: str, allowed: str) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise click.UsageError(f"{name} is {text!r}; allowed is: {allowed}.") from error
    except RecursionError as error:
        raise click.UsageError(f"{name} is nested too deeply.") from error


def kinds(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> set[str]:
    """The JSON types that a schema allows; none if it allows anything."""
    if "$ref" in schema:
        return kinds(definitions.get(schema["$ref"].rpartition("/")[2], {}), definitions)
    found = schema.get("type", [])
    allowed = {found} if isinstance(found, str) else set(found)
    allowed |= {KINDS[type(value)] for value in schema.get("enum", []) if type(value) in KINDS}
    for part in (*schema.get("anyOf", []), *schema.get("oneOf", [])):
        allowed |= kinds(part, definitions)
    return allowed
