"""A secret is recognised in each form in which a log or a message may show it."""

import json
import subprocess
from typing import Any

import msgspec
import pytest

from service.tasks.declare import task

KEY = 'the first "line"\n\tand \\ the second\r\nit\'s the third, só é\n-\n'


@task("open", secret=("word",))
def opened(context: Any, word: Any) -> None: ...


def without(word: object, shown: str) -> str:
    args = msgspec.Raw(msgspec.json.encode({"word": word}))
    for each in opened.__sandbox_task__.secret_texts(args):  # type: ignore[attr-defined]
        shown = shown.replace(each, "#")
    return shown


@pytest.mark.parametrize(
    ("shown", "left"),
    [
        (f"of {KEY}!", "of #!"),
        (f"of {[KEY]!r}", "of ['#']"),
        (str(subprocess.CalledProcessError(3, ["sh", KEY])), "Command '['sh', '#']' returned non-zero exit status 3."),
        (json.dumps({"a": KEY}), '{"a": "#"}'),
        (json.dumps({"a": KEY}, ensure_ascii=False), '{"a": "#"}'),
        (repr(["curl", "-d", json.dumps({"a": KEY})]), "['curl', '-d', '{\"a\": \"#\"}']"),
        (json.dumps({"error": repr(["sh", KEY])}), "{\"error\": \"['sh', '#']\"}"),
        (repr(f"'\"{KEY}"), "'\\'\"#'"),
    ],
)
def test_the_whole_is_found_however_it_is_quoted(shown: str, left: str) -> None:
    assert without(KEY, shown) == left


@pytest.mark.parametrize("line", KEY.splitlines())
def test_so_is_each_line_but_for_the_shortest(line: str) -> None:
    shown = [without(KEY, f"of {each}!") for each in (line, repr(line)[1:-1], json.dumps(line)[1:-1])]
    assert ("-" in line) == ("-" in "".join(shown))
    assert "line" not in "".join(shown) and "second" not in "".join(shown) and "third" not in "".join(shown)


def test_it_may_stand_anywhere_in_the_argument() -> None:
    assert without({"a": ["sesame", 4711, 3], "b": None, "c": True}, "sesame 4711 3 None True") == "# # 3 None True"
