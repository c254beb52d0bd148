"""The task document: transitions, writing, time, and the place of a UID."""

import binascii
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import InvalidTransition
from service.tasks import moments, transitions
from service.tasks.document import (
    CANCELLED,
    FAILED,
    NULL,
    QUEUED,
    RUNNING,
    SCHEDULED,
    SUCCEEDED,
    Claim,
    Task,
    TaskError,
    decode,
    encode,
    not_understood,
    public,
)
from service.tasks.uid import SLOTS, prefix_for, random_prefix, slot, steer

NOW = "2026-03-01T12:00:00.000000Z"
LATER = "2026-03-01T12:00:09.500000Z"
CLAIM = Claim("host:1", "token", "sandbox:{0}:queue:default", "5-1")
ERROR = TaskError("ValueError", "no", "e1")


def task(status: str = QUEUED, **fields: Any) -> Task:
    known: dict[str, Any] = {"uid": "u", "type": "echo", "queue": "default", "created_at": NOW, "status": status}
    if status == RUNNING:
        known |= {"claim": CLAIM, "attempt": 1}
    return Task(**(known | fields))


def changes(before: Task, after: Task) -> dict[str, Any]:
    """The fields that a transition has changed, without the revision."""
    old, new = msgspec.structs.asdict(before), msgspec.structs.asdict(after)
    assert new.pop("revision") == old.pop("revision") + 1
    return {name: value for name, value in new.items() if value != old[name]}


# --- transitions -----------------------------------------------------------------------------------

TRANSITIONS: dict[str, tuple[Task, Callable[[Task], Task], dict[str, Any]]] = {
    "a claim counts the attempt": (
        task(progress=msgspec.Raw(b'{"fraction":1}'), started_at=NOW, duration=1.0),
        lambda before: transitions.claimed(before, CLAIM),
        {
            "status": RUNNING,
            "claim": CLAIM,
            "attempt": 1,
            "progress": NULL,
            "started_at": None,
            "duration": None,
        },
    ),
    "a claim from a runner that is gone is the same attempt": (
        task(RUNNING),
        lambda before: transitions.claimed(before, Claim("b", "t2", "s", "1-1")),
        {"claim": Claim("b", "t2", "s", "1-1")},
    ),
    "a claim after a crash is another attempt": (
        task(RUNNING, started_at=NOW),
        lambda before: transitions.claimed(before, Claim("b", "t2", "s", "1-1"), crashed=True),
        {"claim": Claim("b", "t2", "s", "1-1"), "attempt": 2, "crashes": 1, "started_at": None},
    ),
    "a start keeps the claim": (
        task(RUNNING),
        lambda before: transitions.started(before, NOW),
        {"started_at": NOW},
    ),
    "news keeps the claim": (
        task(RUNNING),
        lambda before: transitions.progressed(before, msgspec.Raw(b'{"fraction":0.5}')),
        {"progress": msgspec.Raw(b'{"fraction":0.5}')},
    ),
    "a success forgets the last error": (
        task(RUNNING, error=ERROR),
        lambda before: transitions.succeeded(before, msgspec.Raw(b"7"), NOW, LATER, 9.5),
        {
            "status": SUCCEEDED,
            "claim": None,
            "error": None,
            "result": msgspec.Raw(b"7"),
            "runner": "host:1",
            "started_at": NOW,
            "finished_at": LATER,
            "duration": 9.5,
        },
    ),
    "a failure for good": (
        task(RUNNING),
        lambda before: transitions.failed(before, ERROR, NOW, LATER, 9.5),
        {
            "status": FAILED,
            "claim": None,
            "error": ERROR,
            "runner": "host:1",
            "failures": 1,
            "started_at": NOW,
            "finished_at": LATER,
            "duration": 9.5,
        },
    ),
    "a failure with another attempt to come": (
        task(RUNNING),
        lambda before: transitions.retried(before, ERROR, NOW, 0.5, LATER),
        {
            "status": SCHEDULED,
            "claim": None,
            "error": ERROR,
            "failures": 1,
            "started_at": NOW,
            "duration": 0.5,
            "run_at": LATER,
        },
    ),
    "the last crash": (
        task(RUNNING, crashes=2),
        lambda before: transitions.crashed_for_good(before, ERROR, LATER),
        {"status": FAILED, "claim": None, "runner": "host:1", "error": ERROR, "crashes": 3, "finished_at": LATER},
    ),
    "handed back before it ran": (
        task(RUNNING),
        lambda before: transitions.handed_back(before, ran=False),
        {"status": QUEUED, "claim": None, "attempt": 0},
    ),
    "handed back while it ran": (
        task(RUNNING, started_at=NOW),
        lambda before: transitions.handed_back(before, ran=True),
        {"status": QUEUED, "claim": None},
    ),
    "postponed before it was claimed": (
        task(attempt=1),
        lambda before: transitions.postponed(before, LATER),
        {"status": SCHEDULED, "run_at": LATER},
    ),
    "due": (
        task(SCHEDULED, run_at=NOW),
        transitions.promoted,
        {"status": QUEUED, "run_at": None},
    ),
    "cancelled while it waits for its time": (
        task(SCHEDULED, run_at=LATER),
        lambda before: transitions.cancelled(before, NOW),
        {"status": CANCELLED, "run_at": None, "finished_at": NOW},
    ),
    "cancelled while it runs": (
        task(RUNNING),
        lambda before: transitions.cancelled(before, NOW),
        {"status": CANCELLED, "claim": None, "runner": "host:1", "finished_at": NOW},
    ),
    "wanted again": (
        task(
            FAILED,
            attempt=3,
            failures=3,
            crashes=1,
            error=ERROR,
            started_at=NOW,
            finished_at=LATER,
            duration=1.0,
            runner="host:1",
        ),
        transitions.requeued,
        {
            "status": QUEUED,
            "runner": None,
            "attempt": 0,
            "failures": 0,
            "crashes": 0,
            "error": None,
            "started_at": None,
            "finished_at": None,
            "duration": None,
        },
    ),
}


@pytest.mark.parametrize("name", TRANSITIONS)
def test_a_transition_changes_these_fields_and_no_others(name: str) -> None:
    before, transition, expected = TRANSITIONS[name]
    text = encode(before)

    after = transition(before)

    assert changes(before, after) == expected
    assert encode(before) == text


@pytest.mark.parametrize("name", TRANSITIONS)
def test_unknown_fields_survive_every_transition(name: str) -> None:
    before, transition, _ = TRANSITIONS[name]
    newer = b',"colour":{"r": 1.0,"g":[]},"weight":null}'

    after = transition(decode(encode(before)[:-1] + newer))

    again = decode(encode(after))
    assert {name: bytes(value) for name, value in (again.unknown or {}).items()} == {
        "colour": b'{"r": 1.0,"g":[]}',
        "weight": b"null",
    }
    assert not_understood(again) == ["colour"]


def test_a_duration_is_kept_to_the_microsecond() -> None:
    running = task(RUNNING)
    for ended in (
        transitions.succeeded(running, NULL, NOW, LATER, 0.1234564321),
        transitions.failed(running, ERROR, NOW, LATER, 0.1234564321),
        transitions.retried(running, ERROR, NOW, 0.1234564321, LATER),
    ):
        assert ended.duration == 0.123456


@pytest.mark.parametrize(
    ("status", "ended"),
    [(SUCCEEDED, "succeeded"), (FAILED, "failed"), (CANCELLED, "been cancelled")],
)
def test_what_has_finished_cannot_be_cancelled(status: str, ended: str) -> None:
    with pytest.raises(InvalidTransition, match=f"the task has already {ended}"):
        transitions.cancelled(task(status), NOW)


@pytest.mark.parametrize("status", [FAILED, CANCELLED])
def test_what_is_wanted_again_has_all_its_attempts_again(status: str) -> None:
    again = transitions.requeued(task(status, attempt=3, max_attempts=3, failures=2, crashes=1))
    assert (again.attempt, again.max_attempts, again.failures, again.crashes) == (0, 3, 0, 0)
    assert transitions.claimed(again, CLAIM).attempt == 1


@pytest.mark.parametrize("status", [SCHEDULED, QUEUED, RUNNING, SUCCEEDED])
def test_only_what_failed_or_was_cancelled_can_be_wanted_again(status: str) -> None:
    with pytest.raises(InvalidTransition, match=f"this one is {status}"):
        transitions.requeued(task(status))


# --- writing ---------------------------------------------------------------------------------------


def test_a_document_is_read_as_it_was_written() -> None:
    written = task(
        RUNNING,
        args=msgspec.Raw('{"a":[1,2.50,"ü"]}'.encode()),
        error=ERROR,
        timeout=1.5,
        request="f",
        progress=msgspec.Raw(b'{"fraction":null}'),
    )
    assert decode(encode(written)) == written


def test_what_is_default_is_left_out() -> None:
    assert encode(task()) == (
        f'{{"uid":"u","type":"echo","queue":"default","status":"queued","created_at":"{NOW}"}}'.encode()
    )


@pytest.mark.parametrize("name", TRANSITIONS)
def test_what_every_release_needs_is_in_every_document(name: str) -> None:
    before, transition, _ = TRANSITIONS[name]
    assert {"uid", "type", "queue", "status", "created_at", "revision"} <= json.loads(encode(transition(before))).keys()


def test_clients_get_back_what_was_left_out_and_defaults_never_change() -> None:
    shown = json.loads(msgspec.json.encode(public(decode(encode(task())))))
    assert list(shown.items()) == [
        ("uid", "u"), ("type", "echo"), ("queue", "default"), ("status", "queued"), ("args", {}), ("created_at", NOW),
        ("started_at", None), ("finished_at", None), ("duration", None), ("attempt", 0), ("max_attempts", 3),
        ("failures", 0), ("crashes", 0), ("timeout", None), ("run_at", None), ("progress", None), ("result", None),
        ("error", None), ("request_id", None), ("created_by", None), ("priority", "normal"),
        ("unique", None), ("parent", None),
    ]  # fmt: skip


def test_the_whole_documents_of_earlier_releases_are_read() -> None:
    text = (
        b'{"uid":"u","type":"echo","queue":"default","status":"queued","args":{},'
        b'"created_at":"2026-03-01T12:00:00.000000Z","started_at":null,"finished_at":null,"duration":null,"attempt":0,'
        b'"max_attempts":3,"failures":0,"crashes":0,"timeout":null,"run_at":null,"progress":null,"result":null,'
        b'"error":null,"revision":1,"claim":null,"request":null,"request_id":null}'
    )
    assert decode(text) == task()


def test_a_document_with_unknown_fields_leaves_out_what_is_default_too() -> None:
    text = encode(task())[:-1] + b',"colour":{"r": 1.0}}'
    assert encode(decode(text)) == text


def test_clients_see_everything_but_what_is_inside() -> None:
    shown = public(decode(encode(task(RUNNING, request="f"))[:-1] + b',"colour":1}'))
    assert not {"revision", "claim", "runner", "request"} & set(shown)
    assert {"uid", "type", "status", "started_at", "finished_at", "duration", "colour"} <= set(shown)


# --- time ------------------------------------------------------------------------------------------


@given(st.integers(0, 4_102_444_800_000_000))
def test_an_exact_stamp_can_be_read_back(micro: int) -> None:
    assert moments.microseconds(moments.stamp_exactly(micro)) == micro


@given(st.floats(0, 4_102_444_800))
def test_a_stamp_loses_less_than_a_microsecond(seconds: float) -> None:
    moment = moments.stamp(seconds)
    assert len(moment) == 27
    assert 0 <= seconds * 1_000_000 - moments.microseconds(moment) < 1.5


@given(st.lists(st.floats(0, 4_102_444_800), min_size=2, max_size=5))
def test_stamps_sort_like_their_times(times: list[float]) -> None:
    assert sorted(map(moments.stamp, times)) == [moments.stamp(seconds) for seconds in sorted(times)]


# --- the place of a UID ------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["0" * 59, prefix_for("", "a"), prefix_for("", "b")])
def test_every_slot_is_reached(prefix: str) -> None:
    for wanted in range(SLOTS):
        uid = steer(prefix, wanted)
        assert len(uid) == 64
        assert binascii.crc_hqx(uid.encode(), 0) % SLOTS == wanted


@given(st.text("0123456789abcdef", min_size=59, max_size=59), st.integers(0, SLOTS - 1))
@settings(max_examples=300)
def test_any_prefix_is_steered_and_kept(prefix: str, wanted: int) -> None:
    uid = steer(prefix, wanted)
    assert uid.startswith(prefix)
    assert set(uid) <= set("0123456789abcdef")
    assert slot(uid.encode()) == wanted


def test_a_key_always_gives_the_same_prefix_and_no_two_share_one() -> None:
    places = [("", "a"), ("a", ""), ("", "a1"), ("1", "a"), ("", "a", 1), ("", "a", 11), ("", "a1", 1), ("2:aa", "b")]
    prefixes = [prefix_for(*place) for place in places]
    assert prefixes == [prefix_for(*place) for place in places]
    assert len(set(prefixes)) == len(places)
    assert {len(prefix) for prefix in prefixes} == {59}


def test_random_prefixes_differ() -> None:
    assert len({random_prefix() for _ in range(1000)}) == 1000
    assert len(random_prefix()) == 59


# --- back-off --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failures", "longest"), [(1, 1.0), (2, 2.0), (5, 16.0), (10, 512.0), (11, 600.0), (5000, 600.0)]
)
def test_back_off_doubles_up_to_a_limit_with_half_left_to_chance(failures: int, longest: float) -> None:
    pauses = [transitions.backoff_seconds(failures) for _ in range(200)]
    assert longest / 2 <= min(pauses) < max(pauses) <= longest


def test_what_a_newer_release_says_of_an_error_survives_until_there_is_another() -> None:
    error = {"type": "E", "message": "m", "hint": {"of": ["a", "newer"]}}
    text = json.dumps(json.loads(encode(task())) | {"error": error}).encode()

    claimed = transitions.claimed(decode(text), CLAIM)
    assert json.loads(encode(claimed))["error"] == error
    assert not_understood(claimed) == []

    failed = transitions.failed(claimed, TaskError("E", "another"), None, NOW, 0.0)
    assert json.loads(encode(failed))["error"] == {"type": "E", "message": "another"}


def test_an_error_is_stored_without_what_it_lacks_and_shown_with_all() -> None:
    failed = transitions.failed(task(), TaskError("E", "m"), None, NOW, 0.0)
    assert b'"error":{"type":"E","message":"m"}' in encode(failed)
    assert public(decode(encode(failed)))["error"] == {"type": "E", "message": "m", "event_id": None}
    newer = encode(failed).replace(b'"message":"m"', b'"message":"m","hint":1')
    assert json.loads(msgspec.json.encode(public(decode(newer))["error"])) == {
        "type": "E", "message": "m", "event_id": None, "hint": 1
    }  # fmt: skip


@pytest.mark.parametrize(("age", "pause"), [(-5.0, 2.0), (0.0, 2.0), (20.0, 2.0), (100.0, 10.0), (86400.0, 60.0)])
def test_what_nobody_understands_is_looked_at_less_often_the_longer_it_waits(age: float, pause: float) -> None:
    assert transitions.postponement_seconds(age) == pause
