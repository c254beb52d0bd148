"""A schedule: a rule that creates tasks at times. Its document, and how that changes. Pure: no I/O, no clock.

A change takes a schedule and returns another one; the store keeps it only while Redis still holds what was read.
"""

from collections.abc import Iterator
from hashlib import sha256
from itertools import chain, islice, takewhile
from typing import ClassVar, Final, NamedTuple

import msgspec

from service.errors import InvalidTask
from service.tasks import moments, timing
from service.tasks.document import NO_ARGS
from service.tasks.timing import MICROSECONDS, TimeRule

SKIP: Final = "skip"
QUEUE: Final = "queue"
ALLOW: Final = "allow"
CANCEL: Final = "cancel"
OVERLAPS: Final = (SKIP, QUEUE, ALLOW, CANCEL)

API: Final = "api"
CODE: Final = "code"

CATCH_UP_SECONDS: Final = 300.0
LONGEST_CATCH_UP_SECONDS: Final = 86400
LONGEST_JITTER_SECONDS: Final = 86400
PUNCTUAL_SECONDS: Final = 30  # so late counts as in time
MOST_COUNTED: Final = 10_000
SHOWN_TIMES: Final = 5


class Terms(msgspec.Struct, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, dict=True):
    """What somebody wants."""

    type: str
    args: msgspec.Raw = NO_ARGS
    queue: str | None = None  # that of the type
    cron: str | None = None
    every: float | None = None  # seconds
    timezone: str = "UTC"
    overlap: str = SKIP
    catch_up: float = CATCH_UP_SECONDS
    jitter: float = 0.0


class Last(msgspec.Struct, frozen=True):
    """The last task that it has created by itself."""

    uid: str
    scheduled_for: str
    created_at: str


class Schedule(Terms, kw_only=True, omit_defaults=True, forbid_unknown_fields=True, dict=True):
    name: str
    source: str
    created_at: str
    changed_at: str
    changed_by: str | None = None
    anchor: str  # from which `every` counts
    paused: bool = False
    next_at: str | None = None  # the time for which it creates a task next
    waiting: str | None = None  # a time whose task is created when the one before has ended
    last: Last | None = None
    fired: int = 0
    skipped: int = 0
    missed: int = 0
    revision: int = 1

    # Fields of a newer release are carried along, never dropped (docs/store.md, Compare first).
    unknown: ClassVar[dict[str, msgspec.Raw] | None] = None

    @property
    def rule(self) -> TimeRule:
        return timing.rule(self.cron, self.every, self.timezone, moments.microseconds(self.anchor))

    @property
    def plan(self) -> Terms:
        return Terms(**{name: getattr(self, name) for name in Terms.__struct_fields__})


_FIELDS: Final = frozenset(Schedule.__struct_fields__)
_encoder = msgspec.json.Encoder()
_decode_known = msgspec.json.Decoder(Schedule).decode


def encode(schedule: Schedule) -> bytes:
    text = _encoder.encode(schedule)
    if schedule.unknown is None:
        return text
    return _encoder.encode(msgspec.json.decode(text, type=dict[str, msgspec.Raw]) | schedule.unknown)


def decode(text: bytes) -> Schedule:
    """Raises a MsgspecError for what is no schedule."""
    try:
        return _decode_known(text)
    except msgspec.ValidationError:
        members = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        schedule = _decode_known(_encoder.encode({name: members[name] for name in members.keys() & _FIELDS}))
        schedule.unknown = {  # type: ignore[misc]
            name: value for name, value in members.items() if name not in _FIELDS
        }
        return schedule


def check(plan: Terms) -> None:
    """Raises InvalidTask, naming the field, unless such a schedule can be kept."""
    timing.rule(plan.cron, plan.every, plan.timezone, 0)
    if plan.every is not None and plan.timezone != "UTC":
        raise InvalidTask("timezone: it is for cron; `every` counts seconds", field="timezone")
    if plan.overlap not in OVERLAPS:
        raise InvalidTask(f"overlap: allowed are {', '.join(OVERLAPS)}", field="overlap")
    for field, most in (("catch_up", LONGEST_CATCH_UP_SECONDS), ("jitter", LONGEST_JITTER_SECONDS)):
        if not 0 <= getattr(plan, field) <= most:
            raise InvalidTask(f"{field}: 0 or more, at most {most} seconds", field=field)


# --- how it changes ------------------------------------------------------------------------------


def put(
    before: Schedule | None, name: str, plan: Terms, *, paused: bool, source: str, now: int, by: str | None
) -> Schedule:
    """As somebody wants it, from now on. What is so already stays as it is."""
    if before is None:
        stamp = moments.stamp_exactly(now)
        after = Schedule(name=name, type=plan.type, source=source, created_at=stamp, changed_at=stamp, anchor=stamp)
    elif (before.plan, before.paused, before.source) == (plan, paused, source):
        return before
    else:
        after = _next(before)
        after.source = source
        if before.every != plan.every:
            after.anchor = moments.stamp_exactly(now)
    for field in Terms.__struct_fields__:
        setattr(after, field, getattr(plan, field))
    if after.overlap != QUEUE:
        after.waiting = None
    goes_on = before is not None and not before.paused and _beat(before) == _beat(after)
    return _changed(after, paused, now, by, keeps_next=goes_on)


def paused(before: Schedule, *, now: int, by: str | None) -> Schedule:
    """What waits for the end of the task before stays away, too."""
    return before if before.paused else _changed(_next(before), True, now, by)


def resumed(before: Schedule, *, now: int, by: str | None) -> Schedule:
    """The times of the pause are over: they were not missed."""
    return _changed(_next(before), False, now, by) if before.paused else before


def _changed(after: Schedule, paused: bool, now: int, by: str | None, keeps_next: bool = False) -> Schedule:
    after.changed_at, after.changed_by = moments.stamp_exactly(now), by
    after.paused = paused
    if paused:
        after.next_at = after.waiting = None
    elif not keeps_next:
        after.next_at = _stamp(next(after.rule.times(now), None))
    return after


def _beat(schedule: Schedule) -> tuple[object, ...]:
    return schedule.cron, schedule.every, schedule.timezone, schedule.anchor


def _next(schedule: Schedule) -> Schedule:
    following = _copied(schedule)
    following.revision += 1
    return following


def _copied(schedule: Schedule) -> Schedule:
    copy: Schedule = schedule.__copy__()  # type: ignore[attr-defined]
    if schedule.unknown is not None:
        copy.unknown = schedule.unknown  # type: ignore[misc]
    return copy


# --- its times -----------------------------------------------------------------------------------


class Outlook(NamedTuple):
    """What a look at a schedule leads to."""

    after: Schedule
    fires: int | None = None  # the time for which a task is to be created
    cancels: bool = False  # the task before has to be cancelled first; then it is looked at again
    skipped: int = 0
    missed: int = 0


def turn(schedule: Schedule, now: int, *, is_busy: bool) -> Outlook:
    """`is_busy`: the last task that it has created has not ended."""
    after = _next(schedule)
    latest, missed = _move_on(after, now)
    if is_busy and schedule.overlap == CANCEL and latest is not None:
        return Outlook(schedule, cancels=True)
    fires, skipped = latest, 0
    if schedule.overlap == QUEUE:
        fires, skipped = _in_line(after, latest, is_busy)
    elif is_busy and schedule.overlap == SKIP and latest is not None:
        fires, skipped = None, 1
    if (after.next_at, after.waiting) == (schedule.next_at, schedule.waiting):
        return Outlook(schedule)
    after.skipped += skipped
    after.missed += missed
    return Outlook(after, fires, skipped=skipped, missed=missed)


def passed_over(schedule: Schedule, now: int) -> Schedule | None:
    """By who cannot create its task: on to the next time, once it is too late for others as well; None until then.

    What waits for the end of the task before is never too late.
    """
    if not is_too_late(schedule, now):
        return None
    after = _next(schedule)
    latest, missed = _move_on(after, now)
    if latest is not None:
        after.next_at = _stamp(latest)  # it is not too late for this one
    after.missed += missed
    return after


def is_too_late(schedule: Schedule, now: int) -> bool:
    """For its next time, whoever creates the task."""
    return schedule.next_at is not None and moments.microseconds(schedule.next_at) < _oldest(schedule, now)


def fired(turn: Outlook, uid: str, now: int) -> Schedule:
    """The schedule when its task has been created."""
    assert turn.fires is not None
    after = _copied(turn.after)
    after.fired += 1
    after.last = Last(uid, moments.stamp_exactly(turn.fires), moments.stamp_exactly(now))
    return after


def look_at(schedule: Schedule, now: int) -> int | None:
    """When it is to be looked at next, in microseconds; None for never."""
    moments_of_it = [moments.microseconds(schedule.next_at)] if schedule.next_at else []
    if schedule.waiting:
        moments_of_it.append(now + MICROSECONDS)
    return min(moments_of_it, default=None)


def next_times(schedule: Schedule) -> list[str]:
    if schedule.next_at is None:
        return []
    first = moments.microseconds(schedule.next_at)
    return [moments.stamp_exactly(at) for at in islice(_from(schedule.rule, first), SHOWN_TIMES)]


def told(schedule: Schedule) -> tuple[str, list[str]]:
    """Its rule in words, and its next times. Where this host cannot make them (it does not know the time zone): why."""
    try:
        return schedule.rule.words, next_times(schedule)
    except InvalidTask as error:
        return error.detail, []


def uid_prefix(name: str, at: int) -> str:
    """The first part of the UID of the task for this time: whoever creates it, it is the same."""
    return sha256(f"schedule {len(name)}:{name}{at}".encode()).hexdigest()[:59]


def delay(schedule: Schedule, at: int) -> int:
    """By how many microseconds jitter puts off the task for this time; the same whoever asks."""
    share = int(uid_prefix(schedule.name, at)[:12], 16) / 16**12
    return int(share * schedule.jitter * MICROSECONDS)


def _move_on(after: Schedule, now: int) -> tuple[int | None, int]:
    """Puts the next time after now. Returns the latest that is due and not too old, and how many were too old."""
    if after.next_at is None:
        return None, 0
    first, oldest = moments.microseconds(after.next_at), _oldest(after, now)
    missed = 0
    for _ in takewhile(lambda at: at < oldest, islice(_from(after.rule, first), MOST_COUNTED)):
        missed += 1
    latest: int | None = None
    following: int | None = None
    for at in after.rule.times(oldest - 1) if missed else _from(after.rule, first):
        if at > now:
            following = at
            break
        latest = at
    after.next_at = _stamp(following)
    return latest, missed


def _in_line(after: Schedule, latest: int | None, is_busy: bool) -> tuple[int | None, int]:
    """With `queue`, one time waits at most. Returns which one is for now, and how many are too many."""
    waiting = moments.microseconds(after.waiting) if after.waiting else None
    if is_busy:
        if latest is not None and waiting is None:
            after.waiting = _stamp(latest)
            return None, 0
        return None, 0 if latest is None else 1
    if waiting is None:
        return latest, 0
    after.waiting = _stamp(latest)
    return waiting, 0


def _oldest(schedule: Schedule, now: int) -> int:
    return now - int(max(schedule.catch_up, PUNCTUAL_SECONDS) * MICROSECONDS)


def _from(rule: TimeRule, first: int) -> Iterator[int]:
    return chain([first], rule.times(first))


def _stamp(at: int | None) -> str | None:
    return None if at is None else moments.stamp_exactly(at)
