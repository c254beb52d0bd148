"""A schedule's document, how it changes, and what a look at it leads to."""

from typing import Any

import msgspec
import pytest

from service.errors import InvalidTask
from service.tasks import moments, schedule
from service.tasks.schedule import API, CODE, Outlook, Schedule, Terms

SECOND = 1_000_000
BEGIN = moments.microseconds("2026-03-01T12:00:00.000000Z")
LATER = BEGIN + 10 * SECOND


def made(paused: bool = False, **plan: Any) -> Schedule:
    """By default each minute, from BEGIN on."""
    given = plan if "cron" in plan else {"every": 60} | plan
    wanted = Terms(type="echo", **given)
    return schedule.put(None, "one", wanted, paused=paused, source=API, now=BEGIN, by="alice")


def changed(before: Schedule, now: int = LATER, paused: bool = False, **plan: Any) -> Schedule:
    wanted = msgspec.structs.replace(before.plan, **plan)
    return schedule.put(before, "one", wanted, paused=paused, source=API, now=now, by="bob")


def after(seconds: float) -> int:
    return BEGIN + int(seconds * SECOND)


def stamp(seconds: float) -> str:
    return moments.stamp_exactly(after(seconds))


def look(one: Schedule, seconds: float, is_busy: bool = False) -> Outlook:
    return schedule.turn(one, after(seconds), is_busy=is_busy)


def seconds(turn: Outlook) -> float | None:
    return None if turn.fires is None else (turn.fires - BEGIN) / SECOND


# --- the document --------------------------------------------------------------------------------


def test_what_is_stored_is_read_again_with_what_a_newer_release_has_added() -> None:
    one = made(args=msgspec.Raw(b'{"a": 1}'), overlap="queue", jitter=5.0)
    assert schedule.decode(schedule.encode(one)) == one
    members = msgspec.json.decode(schedule.encode(one)) | {"colour": "red"}
    newer = schedule.decode(msgspec.json.encode(members))
    turned = look(newer, 61).after
    assert msgspec.json.decode(schedule.encode(turned))["colour"] == "red"
    assert turned.revision == 2


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"name": 5}', b"\xff"])
def test_what_is_no_schedule_is_not_read(text: bytes) -> None:
    with pytest.raises((msgspec.MsgspecError, UnicodeDecodeError)):
        schedule.decode(text)


@pytest.mark.parametrize(
    ("plan", "field"),
    [
        ({}, "cron"),
        ({"cron": "@daily", "every": 5.0}, "cron"),
        ({"cron": "0 0 0 * * *"}, "cron"),
        ({"cron": "@daily", "timezone": "Nowhere"}, "timezone"),
        ({"every": 5.0, "timezone": "Europe/Prague"}, "timezone"),
        ({"every": 0.1}, "every"),
        ({"every": 5.0, "overlap": "perhaps"}, "overlap"),
        ({"every": 5.0, "catch_up": -1.0}, "catch_up"),
        ({"every": 5.0, "catch_up": 1e9}, "catch_up"),
        ({"every": 5.0, "jitter": float("nan")}, "jitter"),
    ],
)
def test_a_plan_that_cannot_be_kept_is_refused_with_the_field(plan: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidTask) as refused:
        schedule.check(Terms(type="echo", **plan))
    assert refused.value.field == field


# --- put, pause, resume --------------------------------------------------------------------------


def test_a_new_schedule_begins_with_the_next_time() -> None:
    assert made().next_at == stamp(60)
    assert made(cron="30 12 * * *").next_at == "2026-03-01T12:30:00.000000Z"
    assert (made(paused=True).next_at, schedule.next_times(made(paused=True))) == (None, [])
    assert schedule.next_times(made()) == [stamp(60 * count) for count in range(1, 6)]


def test_to_put_the_same_again_changes_nothing() -> None:
    one = made()
    assert changed(one) is one


def test_another_rule_works_from_now_on_and_other_changes_keep_the_time() -> None:
    one = made()
    other = changed(one, now=after(70), every=45.0)
    assert (other.next_at, other.revision, other.changed_by) == (stamp(115), 2, "bob")
    assert changed(one, now=after(70), cron="@daily", every=None).next_at == "2026-03-02T00:00:00.000000Z"
    assert changed(one, now=after(70), args=msgspec.Raw(b'{"a": 1}')).next_at == stamp(60)  # due, and still to be fired
    assert (one.next_at, one.revision) == (stamp(60), 1), "the argument stays as it is"


def test_what_is_resumed_goes_on_in_its_phase_and_has_missed_nothing() -> None:
    paused = schedule.paused(made(), now=after(10), by="bob")
    assert (paused.paused, paused.next_at, schedule.look_at(paused, LATER)) == (True, None, None)
    resumed = schedule.resumed(paused, now=after(200), by="bob")
    assert (resumed.paused, resumed.next_at, resumed.missed) == (False, stamp(240), 0)
    assert schedule.paused(paused, now=LATER, by="bob") is paused
    assert schedule.resumed(resumed, now=LATER, by="bob") is resumed


def test_what_waits_stays_only_where_times_queue() -> None:
    waits = look(made(overlap="queue"), 61, is_busy=True).after
    assert waits.waiting == stamp(60)
    assert changed(waits, args=msgspec.Raw(b'{"a": 1}')).waiting == stamp(60)
    assert changed(waits, overlap="skip").waiting is None
    assert schedule.paused(waits, now=LATER, by=None).waiting is None


def test_one_that_came_from_the_code_can_be_taken_over() -> None:
    one = schedule.put(None, "one", made().plan, paused=False, source=CODE, now=BEGIN, by=None)
    assert (changed(one).source, changed(one).next_at) == (API, one.next_at)


# --- what is due ---------------------------------------------------------------------------------


def test_before_its_time_nothing_happens() -> None:
    one = made()
    assert look(one, 59.9) == Outlook(one)


def test_at_its_time_it_fires_and_moves_on() -> None:
    turn = look(made(), 60)
    assert (seconds(turn), turn.after.next_at, turn.missed, turn.skipped) == (60, stamp(120), 0, 0)
    fired = schedule.fired(turn, "a" * 64, after(60.5))
    assert (fired.fired, fired.last) == (1, schedule.Last("a" * 64, stamp(60), stamp(60.5)))


def test_of_what_was_missed_the_latest_runs_and_what_is_too_old_is_counted() -> None:
    turn = look(made(catch_up=150), 60 * 10 + 5)
    assert (seconds(turn), turn.missed, turn.after.missed, turn.after.next_at) == (600, 7, 7, stamp(660))


def test_half_a_minute_counts_as_in_time() -> None:
    assert seconds(look(made(catch_up=0), 89)) == 60
    turn = look(made(catch_up=0, cron="1 12 * * *"), 91)
    assert (turn.fires, turn.missed, turn.after.next_at) == (None, 1, "2026-03-02T12:01:00.000000Z")


def test_a_long_absence_is_over_in_no_time() -> None:
    turn = look(made(every=1), 300 * 86400)
    assert (seconds(turn), turn.missed) == (300 * 86400, schedule.MOST_COUNTED)
    turn = look(made(cron="* * * * *"), 300 * 86400 + 7)
    assert (seconds(turn), turn.after.next_at) == (300 * 86400, stamp(300 * 86400 + 60))


@pytest.mark.parametrize(("is_busy", "fires", "skipped"), [(True, None, 1), (False, 60, 0)])
def test_skip_leaves_a_time_out_while_the_task_before_runs(is_busy: bool, fires: int | None, skipped: int) -> None:
    turn = look(made(overlap="skip"), 61, is_busy)
    assert (seconds(turn), turn.skipped, turn.after.skipped) == (fires, skipped, skipped)
    assert turn.after.next_at == stamp(120)


def test_allow_does_not_look_at_the_task_before() -> None:
    assert seconds(look(made(overlap="allow"), 61, is_busy=True)) == 60


def test_cancel_has_the_task_before_cancelled_first() -> None:
    one = made(overlap="cancel")
    assert look(one, 61, is_busy=True) == Outlook(one, cancels=True)
    assert look(one, 59, is_busy=True) == Outlook(one)
    assert look(one, 600, is_busy=True).cancels  # and also where some times were too old
    assert seconds(look(one, 61)) == 60


def test_queue_keeps_one_time_until_the_task_before_has_ended() -> None:
    one = look(made(overlap="queue"), 61, is_busy=True).after
    assert (one.waiting, one.next_at) == (stamp(60), stamp(120))
    assert schedule.look_at(one, after(61)) == after(62)
    assert look(one, 62, is_busy=True) == Outlook(one)
    more = look(one, 121, is_busy=True)
    assert (more.fires, more.skipped, more.after.waiting) == (None, 1, stamp(60))
    turn = look(more.after, 130)
    assert (seconds(turn), turn.after.waiting, turn.after.next_at) == (60, None, stamp(180))
    both = look(one, 120)
    assert (seconds(both), both.after.waiting, both.after.next_at) == (60, stamp(120), stamp(180))


def test_who_cannot_create_the_task_leaves_it_until_it_is_too_late() -> None:
    one = made(catch_up=150)
    assert schedule.passed_over(one, after(59)) is None
    assert schedule.passed_over(one, after(209)) is None
    passed = schedule.passed_over(one, after(211))
    assert passed is not None
    assert (passed.next_at, passed.missed) == (stamp(180), 1), "the latest time may still be fired by others"


def test_who_cannot_create_the_task_leaves_what_waits_for_the_task_before() -> None:
    one = look(made(overlap="queue", catch_up=150), 61, is_busy=True).after
    assert schedule.passed_over(one, after(269)) is None
    passed = schedule.passed_over(one, after(271))
    assert passed is not None
    assert (passed.waiting, passed.next_at, passed.missed) == (stamp(60), stamp(240), 1)


# --- names and delays ----------------------------------------------------------------------------


def test_the_uid_follows_from_the_schedule_and_the_time() -> None:
    prefixes = {schedule.uid_prefix(name, at) for name in ("a", "a1", "b") for at in (BEGIN, LATER)}
    assert len(prefixes) == 6 and {len(each) for each in prefixes} == {59}
    assert schedule.uid_prefix("a", BEGIN) == schedule.uid_prefix("a", BEGIN)


def test_jitter_puts_each_time_off_by_its_own_share() -> None:
    one = made(jitter=10.0)
    delays = [schedule.delay(one, after(60 * count)) for count in range(200)]
    assert 0 <= min(delays) < 2 * SECOND and 8 * SECOND < max(delays) < 10 * SECOND
    assert delays == [schedule.delay(one, after(60 * count)) for count in range(200)]
    assert schedule.delay(made(), BEGIN) == 0
