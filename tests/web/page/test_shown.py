"""How values are written for people."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as some

from service.observe.scrubber import REMOVED
from service.tasks import moments
from service.web.page import shown

VALUES = some.recursive(
    some.none() | some.booleans() | some.integers() | some.text(),
    lambda inner: some.lists(inner, max_size=4) | some.dictionaries(some.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, shown.NOTHING), (0.000021, "21 µs"), (0.5, "500 ms"), (3.0, "3 s"), (59.94, "59.9 s"),
        (75, "1 min 15 s"),
        (3600, "1 h"), (90_000, "1 d 1 h"), (0, "0 µs"), (59.99, "60 s"),
    ],
)  # fmt: skip
def test_a_span_has_two_units_at_most(seconds: float | None, words: str) -> None:
    assert shown.span(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.3, "just now"), (3, "3 s ago"), (-70, "in 1 min"), (7300, "2 h ago"), (8.7e5, "10 d ago")],
)
def test_a_moment_is_so_long_ago(seconds: float, words: str) -> None:
    assert shown.ago(moments.stamp(2e9 - seconds), 2e9) == words


def test_a_moment_is_exact_where_one_looks_closer() -> None:
    assert shown.exactly("2026-11-26T13:15:09.123456Z") == "2026-11-26 13:15:09.123456 UTC"


@pytest.mark.parametrize(("number", "words"), [(0, "0 B"), (1023, "1023 B"), (2048, "2.0 KB"), (3e9, "2.8 GB")])
def test_a_size_has_one_unit(number: float, words: str) -> None:
    assert shown.size(number) == words


@given(VALUES)
def test_what_is_shown_is_the_value(value: object) -> None:
    raw = json.dumps(value).encode()
    visible = shown.UNSEEN.search(json.dumps(value, ensure_ascii=False)) is None
    if visible and shown.hidden(value) == value:
        assert json.loads(shown.exact(raw)) == value
    assert json.loads(shown.written(shown.parsed(raw))) == value


def test_what_lies_deep_is_no_page_of_blanks() -> None:
    raw = json.dumps([_nested(60)] * 100).encode()
    assert json.loads(shown.exact(raw)) == json.loads(raw)
    assert len(shown.exact(raw)) < 8 * len(raw)


def _nested(depth: int) -> list[object]:
    return [_nested(depth - 1)] if depth else []


def test_numbers_keep_every_digit() -> None:
    raw = b'{"big": 123456789012345678901234567890, "small": 1.10, "huge": 1e999}'
    assert shown.exact(raw).split() == [
        "{", '"big":', "123456789012345678901234567890,", '"small":', "1.10,", '"huge":', "1e999", "}",
    ]  # fmt: skip


def test_what_would_turn_or_hide_text_is_written_out() -> None:
    assert shown.exact(json.dumps("a\u202eb\u200b\x7f").encode()) == '"a\\u202eb\\u200b\\u007f"'
    hidden = "paid\u3164\U000e0041"
    assert shown.text(hidden) == r"paid\u3164\udb40\udc41" and json.loads(f'"{shown.text(hidden)}"') == hidden


def test_a_page_hides_what_sounds_like_a_secret() -> None:
    seen = shown.hidden({"rows": [{"api_key": "k", "n": 12345678901234567890}], "token": {"a": 1}, "plain": "x"})
    assert seen == {"rows": [{"api_key": REMOVED, "n": 12345678901234567890}], "token": REMOVED, "plain": "x"}


def test_what_was_hidden_comes_back_where_it_stands() -> None:
    before = {"password": "x", "list": [{"token": "y"}, 2], "kept": 1}
    seen = shown.hidden(before)
    assert "x" not in str(seen) and shown.restored(seen, before, seen) == before
    changed = {"password": "new", "list": [3, {"token": "[removed]"}, 2], "kept": 2}
    assert shown.restored(changed, before, seen) == {"password": "new", "list": [3, {"token": "y"}, 2], "kept": 2}


def test_of_a_text_in_which_something_is_hidden_too() -> None:
    before = {"url": "https://me:hunter2@host/"}
    seen = shown.hidden(before)
    assert "hunter2" not in str(seen) and shown.restored(seen, before, seen) == before


def test_a_browser_may_have_changed_the_ends_of_its_lines() -> None:
    before = "see\r\nhttps://me:hunter2@host/\r\nthere"
    assert shown.restored(shown.hidden(before).replace("\r\n", "\n"), before, shown.hidden(before)) == before


def test_who_has_written_the_same_words_himself_changes_them() -> None:
    before = "the log says [removed]"
    assert shown.restored("and so says [removed] here", before, shown.hidden(before)) == "and so says [removed] here"


ANN, BOB = {"user": "ann", "password": "a"}, {"user": "bob", "password": "b"}


@pytest.mark.parametrize(
    ("left", "expected"),
    [([0, 1], [ANN, BOB]), ([1], [BOB]), ([1, 0], [BOB, ANN]), ([0, 1, 1], [ANN, BOB, BOB])],
)
def test_no_secret_goes_to_another_member_of_a_list(left: list[int], expected: list[object]) -> None:
    seen = shown.hidden([ANN, BOB])
    assert shown.restored([seen[place] for place in left], [ANN, BOB], seen) == expected


@pytest.mark.parametrize(
    ("value", "before"),
    [
        ([{"user": "eve", "password": "[removed]"}], [ANN]),
        ([{"password": "[removed]"}], [{"password": "a"}, {"password": "b"}]),
        ({"pass_word": "[removed]"}, {"password": "a"}),
        ("https://[removed]@other/", "https://me:hunter2@host/"),
        ("[removed]", None),
    ],
)
def test_what_cannot_be_told_is_to_be_written(value: object, before: object) -> None:
    with pytest.raises(ValueError, match="write what is to stand for"):
        shown.restored(value, before, shown.hidden(before))
