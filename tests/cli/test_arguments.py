"""`name=value` as what the type's schema makes of it."""

import json
from typing import Any

import click
import pytest

from service.cli import arguments

SCHEMA = {
    "properties": {
        "text": {"type": "string"},
        "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "count": {"type": "integer"},
        "share": {"anyOf": [{"type": "number"}, {"type": "null"}]},
        "express": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "size": {"enum": ["small", "large"]},
        "level": {"enum": [1, 2]},
        "colour": {"$ref": "#/$defs/Colour"},
        "any": {},
    },
    "$defs": {"Colour": {"enum": ["red", "blue"]}},
}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("text=5", "5"),
        ("text=", ""),
        ("text=a=b", "a=b"),
        ("maybe=null", "null"),
        ("maybe:=null", None),
        ("count=5", 5),
        ("count=-5", -5),
        ("share=0.5", 0.5),
        ("share=null", None),
        ("express=true", True),
        ('tags=["a", "b"]', ["a", "b"]),
        ("size=small", "small"),
        ("level=2", 2),
        ("colour=red", "red"),
        ("any=5", 5),
        ("any=five", "five"),
        ("unknown=5", 5),
        (f"any={'[' * 100_000}", "[" * 100_000),
        ("text:=5", 5),
        ("count=123456789012345678901234567890", 123456789012345678901234567890),
    ],
)
def test_a_word_becomes_what_the_schema_allows(word: str, value: Any) -> None:
    name = word.partition("=")[0].rstrip(":")
    assert arguments.read([word], SCHEMA) == {name: value}


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("count", "'count' is no argument of a task; write NAME=VALUE or NAME:=JSON."),
        ("=5", "'=5' is no argument"),
        (":=5", "':=5' is no argument"),
        ("count=five", "count is 'five'; allowed is: integer."),
        ("share=half", "share is 'half'; allowed is: null or number."),
        ("text:=five", "text is 'five'; allowed is: JSON."),
    ],
)
def test_a_word_that_means_nothing_is_refused(word: str, said: str) -> None:
    with pytest.raises(click.UsageError) as refused:
        arguments.read([word], SCHEMA)
    assert refused.value.message.startswith(said)


DEEP = "[" * 100_000


@pytest.mark.parametrize("word", [f"tags={DEEP}", f"text:={DEEP}"])
def test_what_is_nested_too_deeply_is_refused(word: str) -> None:
    for read in (lambda: arguments.read([word], SCHEMA), lambda: arguments.given(DEEP)):
        with pytest.raises(click.UsageError, match="nested too deeply"):
            read()


@pytest.mark.parametrize("text", ["5", "[]", "{", json.dumps("a")])
def test_args_are_an_object(text: str) -> None:
    with pytest.raises(click.UsageError, match="--args holds no JSON"):
        arguments.given(text)
