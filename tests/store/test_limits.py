"""Limits: who is admitted, who waits, and what lets the next one in."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import redis

from service.errors import StoreUnavailable
from service.store import SCRIPTS, TYPE, Change, Entry, Moved, Pause, Store, keys
from service.store import limits as the_limits
from service.store.connection import connect
from service.tasks import moments, transitions
from service.tasks.declare import task
from service.tasks.document import QUEUED, SCHEDULED, Claim, Task, TaskError, decode
from service.tasks.limit_rule import Bounds, LimitRule, is_set
from service.tasks.uid import random_prefix
from tests.runner.wires import FaultyWire
from tests.servers import RedisCluster, RedisServer, eventually

BY_CUSTOMER = "args.customer"


@task("mail", limits=("per-customer",))
def mail(context: Any, customer: str = "nobody") -> None: ...


@task("call", limits=("per-customer", "line"))
def call(context: Any, customer: str = "nobody") -> None: ...


@task("free")
def free(context: Any, customer: str = "nobody") -> None: ...


@task("ring", limits=("line",))
def ring(context: Any, customer: str = "nobody") -> None: ...


TYPES = [each.__sandbox_task__ for each in (mail, call, free, ring)]  # type: ignore[attr-defined]


@pytest.fixture
def raw(server: RedisServer) -> Iterator[redis.Redis]:
    with server.client() as client:
        yield client


@pytest.fixture(autouse=True)
def knowing(store: Store) -> None:
    store.limits.know(TYPES)


def limit(store: Store, name: str = "per-customer", key: str | None = BY_CUSTOMER, **bounds: Any) -> None:
    store.limits.put(name, LimitRule(key=key, **bounds))
    while store.limits.serve() == 0:
        pass


def stored(store: Store, customer: str = "acme", type: str = "mail", **fields: Any) -> str:
    args = msgspec.Raw(msgspec.json.encode({"customer": customer}))
    uid = store.uid(random_prefix(), 0)
    created_at = moments.stamp_exactly(time.time_ns() // 1000)
    made = Task(uid=uid, type=type, queue="default", args=args, created_at=created_at, **({"status": QUEUED} | fields))
    assert store.create([made]) == []
    return uid


def stored_all(store: Store, customer: str, count: int) -> list[str]:
    args = msgspec.Raw(msgspec.json.encode({"customer": customer}))
    created_at = moments.stamp_exactly(time.time_ns() // 1000)
    uids = [store.uid(random_prefix(), 0) for _ in range(count)]
    for start in range(0, count, 500):
        made = [
            Task(uid=uid, type="call", queue="default", args=args, created_at=created_at, status=QUEUED)
            for uid in uids[start : start + 500]
        ]
        assert store.create(made) == []
    return uids


def fetched(store: Store, count: int = 100) -> list[Entry]:
    return store.queues.fetch(0, ("default",), "a", count)


def uids(entries: list[Entry]) -> list[str]:
    return [entry.uid for entry in entries]


def claim(store: Store, entry: Entry) -> Change:
    assert entry.text is not None
    before = decode(entry.text)
    asked = store.limits.asked(entry.partition, before)
    places = tuple(asked.split()) if is_set(asked) else ()
    claim = Claim("a", f"token of {entry.id}", entry.stream, entry.id, places)
    return Change(entry.text, before, transitions.claimed(before, claim), entry, asked=asked)


def claimed(store: Store, entries: list[Entry]) -> Moved:
    return store.move([claim(store, entry) for entry in entries], consumer="a")


def run(store: Store, count: int = 100) -> list[tuple[str, Entry]]:
    """Claims all that is given out."""
    moved = claimed(store, fetched(store, count))
    return [(change.before.uid, change.entry) for change, _ in moved.stored if change.entry]


def ends(store: Store, uid: str, entry: Entry, transition: Any = None) -> None:
    found = store.read(uid)
    assert found is not None
    transition = transition or (
        lambda task: transitions.succeeded(task, msgspec.Raw(b"1"), task.created_at, task.created_at, 0.1)
    )
    assert store.move([Change(found.text, found.task, transition(found.task), entry)]).stored


def blocked(store: Store, uid: str) -> str | None:
    found = store.read(uid)
    assert found is not None
    store.limits.tell([found.task], store.partition)
    return found.task.blocked_by


def waiting(store: Store) -> dict[str, tuple[int, int]]:
    return {name: (each.waiting, each.keys) for name, each in store.limits.now().items() if each.waiting}


def left(raw: redis.Redis) -> set[str]:
    names = {key.decode().split(":", 3)[-1].rpartition(":")[0] for key in raw.scan_iter("sandbox:{0}:limit:*")}
    return {each for each in names if not each.startswith("next")}


# --- how many at once --------------------------------------------------------------------------------


def test_so_many_of_a_key_are_given_out_and_the_others_wait_without_an_entry(store: Store) -> None:
    limit(store, concurrency=2)
    acme = [stored(store) for _ in range(4)]
    other = stored(store, "other")

    assert uids(fetched(store)) == [*acme[:2], other]
    assert [blocked(store, uid) for uid in acme] == [None, None, "per-customer", "per-customer"]
    assert waiting(store) == {"per-customer": (2, 1)}


def test_the_end_of_a_claim_admits_the_next_of_its_key_in_the_same_step(store: Store, raw: redis.Redis) -> None:
    limit(store, concurrency=1)
    first, second, third = (stored(store) for _ in range(3))
    [(uid, entry)] = run(store)
    assert uid == first and fetched(store) == []

    ends(store, uid, entry)
    [(uid, entry)] = run(store)
    assert uid == second

    ends(
        store,
        uid,
        entry,
        lambda task: transitions.retried(task, TaskError("E", "m"), task.created_at, 0.1, task.created_at),
    )
    [(uid, entry)] = run(store)
    assert uid == third
    ends(store, uid, entry)
    store.promote(0, 10)
    [(uid, entry)] = run(store)
    assert uid == second
    ends(store, uid, entry)

    assert waiting(store) == {} and left(raw) == set()


def test_a_claim_is_held_up_where_its_entry_came_before_the_limit(store: Store) -> None:
    tasks = [stored(store) for _ in range(3)]
    entries = fetched(store)
    limit(store, concurrency=1)
    store.limits.look_anew()

    moved = claimed(store, entries)

    assert [change.before.uid for change, _ in moved.stored] == tasks[:1]
    assert [change.before.uid for change in moved.paused] == tasks[1:]
    assert [blocked(store, uid) for uid in tasks] == [None, "per-customer", "per-customer"]
    found = store.read(tasks[1])
    assert found is not None and (found.task.status, found.task.attempt) == (QUEUED, 0)


def test_a_claim_that_asks_by_an_old_rule_is_refused(store: Store) -> None:
    stored(store)
    [entry] = fetched(store)
    asked_before = claim(store, entry)
    limit(store, concurrency=1)

    assert store.move([asked_before], consumer="a").refused == [asked_before]
    assert len(claimed(store, [entry]).stored) == 1


def test_a_cancelled_task_leaves_its_place_or_its_turn_to_the_next(store: Store, raw: redis.Redis) -> None:
    limit(store, concurrency=1)
    first, second, third = (stored(store) for _ in range(3))

    def cancel(uid: str) -> None:
        store.change(uid, lambda task: transitions.cancelled(task, task.created_at))

    cancel(second)
    cancel(first)
    entries = {entry.uid: entry for entry in fetched(store)}
    assert set(entries) == {first, third}  # the entry of the first is stale
    assert claimed(store, [entries[third]]).stored
    fourth = stored(store)
    cancel(third)
    assert uids(fetched(store)) == [fourth]
    cancel(fourth)
    assert waiting(store) == {} and left(raw) == set()


def test_what_is_handed_back_keeps_its_place(store: Store) -> None:
    limit(store, concurrency=1)
    first, second = stored(store), stored(store)
    [(uid, entry)] = run(store)

    ends(store, uid, entry, lambda task: transitions.handed_back(task, ran=True))

    [(uid, entry)] = run(store)
    assert uid == first and blocked(store, second) == "per-customer"


def test_what_is_taken_over_keeps_its_place(store: Store) -> None:
    limit(store, concurrency=1)
    first, second = stored(store), stored(store)
    assert [uid for uid, _ in run(store)] == [first]
    [taken] = store.queues.take_any(0, ("default",), "b", dead="a", idle_ms=0, count=10)
    assert taken.text is not None
    before = decode(taken.text)
    assert before.claim is not None
    anew = Claim("b", "t", taken.stream, taken.id, before.claim.places)

    after = transitions.claimed(before, anew, crashed=True)
    assert store.move([Change(taken.text, before, after, taken)], consumer="b").stored

    assert blocked(store, second) == "per-customer"
    ends(store, first, taken)
    assert uids(fetched(store)) == [second]


def test_keys_are_served_in_turn(store: Store) -> None:
    limit(store, concurrency=1)
    many = [stored(store, "many") for _ in range(50)]
    few = [stored(store, "few") for _ in range(3)]
    order = []
    for _ in range(6):
        [entry, *_] = fetched(store, 1)
        assert claimed(store, [entry]).stored
        order.append(entry.uid)
        ends(store, entry.uid, entry)

    assert order == [many[0], few[0], many[1], few[1], many[2], few[2]]


def test_a_key_with_thousands_of_tasks_holds_up_no_other_by_more_than_one_round(store: Store) -> None:
    """Be they created before its tasks or behind them, and where all keys share one more limit."""
    limit(store, concurrency=1)
    limit(store, "line", key=None, concurrency=4)
    few = stored_all(store, "before", 3)
    stored_all(store, "many", 5000)
    few += [uid for number in range(9) for uid in stored_all(store, f"behind {number}", 3)]
    order: list[str] = []
    rounds = 0
    while not set(few) <= set(order) and rounds < 50:
        rounds += 1
        for uid, entry in run(store):
            order.append(uid)
            ends(store, uid, entry)

    others = set(few)
    assert others <= set(order)
    of_many = [uid for uid in order if uid not in others]
    assert len(of_many) <= 3 + 1, "no oftener than each other key, and the one that came first"
    assert rounds <= -(-(len(few) + len(of_many)) // 4) + 1, "no place of the line is left empty for its sake"


def test_what_falls_due_or_is_retried_waits_like_what_is_new(store: Store) -> None:
    limit(store, concurrency=1)
    first = stored(store)
    due = stored(store, status=SCHEDULED, run_at="2026-01-01T00:00:00.000000Z")
    again = stored(store)
    store.change(again, lambda task: transitions.cancelled(task, task.created_at))
    store.promote(0, 10)
    store.change(again, transitions.requeued)

    assert uids(fetched(store)) == [first]
    assert [blocked(store, uid) for uid in (due, again)] == ["per-customer"] * 2


# --- several limits ------------------------------------------------------------------------------------


def test_a_task_runs_when_all_of_its_limits_admit_it(store: Store, raw: redis.Redis) -> None:
    limit(store, concurrency=1)
    limit(store, "line", key=None, concurrency=2)
    tasks = [stored(store, customer, "call") for customer in ("a", "b", "a", "c", "c")]
    running = dict(run(store))
    assert list(running) == tasks[:2]
    assert [blocked(store, uid) for uid in tasks] == [None, None, "line", "line", "line"]

    ends(store, tasks[1], running[tasks[1]])
    running |= run(store)
    assert list(running) == [tasks[0], tasks[1], tasks[3]]
    assert blocked(store, tasks[2]) == "per-customer"  # its turn came, and its customer was at work

    ends(store, tasks[0], running[tasks[0]])
    running |= run(store)
    for uid in (tasks[3], tasks[2]):
        ends(store, uid, running[uid])
    running |= run(store)
    ends(store, tasks[4], running[tasks[4]])
    assert waiting(store) == {} and left(raw) == set()


# --- rates ---------------------------------------------------------------------------------------------


def test_a_rate_admits_its_burst_and_then_one_when_it_is_due(store: Store) -> None:
    limit(store, rate="5/second", burst=2)
    tasks = [stored(store) for _ in range(4)]
    begun = time.monotonic()
    started = [uid for uid, _ in run(store)]
    assert started == tasks[:2] and blocked(store, tasks[2]) == "per-customer"

    def next_one() -> bool:
        store.limits.serve()
        started.extend([uid for uid, _ in run(store)])
        return len(started) == 4

    eventually(next_one)
    assert started == tasks and time.monotonic() - begun >= 0.39


def test_what_was_admitted_and_not_claimed_makes_no_burst(store: Store) -> None:
    limit(store, rate="1000/second")
    for _ in range(3000):
        stored(store)
    time.sleep(0)
    entries = fetched(store, 10_000)
    eventually(lambda: store.limits.serve() > 0)
    entries += fetched(store, 10_000)
    assert len(entries) <= 502  # half a second's worth at most, however long nobody claims


def test_a_claim_that_is_handed_back_before_its_start_does_not_count_as_one(store: Store) -> None:
    limit(store, rate="1/hour")
    first, second = stored(store), stored(store)
    [(_, entry)] = run(store)
    ends(store, first, entry, lambda task: transitions.handed_back(task, ran=False))
    store.change(first, lambda task: transitions.cancelled(task, task.created_at))

    assert [uid for uid, _ in run(store)] == [second]


def test_what_is_handed_back_long_after_its_turn_disturbs_nothing(store: Store) -> None:
    limit(store, rate="1000/second")
    [first] = [stored(store)]
    [(_, entry)] = run(store)
    time.sleep(0.6)  # longer than a late start is made up for
    ends(store, first, entry, lambda task: transitions.handed_back(task, ran=False))
    assert [uid for uid, _ in run(store)] == [first]


def test_what_is_handed_back_and_runs_again_counts_as_one_start(store: Store) -> None:
    limit(store, rate="1/hour")
    first, second = stored(store), stored(store)
    [(_, entry)] = run(store)
    ends(store, first, entry, lambda task: transitions.handed_back(task, ran=True))

    assert [uid for uid, _ in run(store)] == [first] and blocked(store, second) == "per-customer"


def test_all_that_a_reload_hands_back_goes_on_at_once(store: Store, raw: redis.Redis) -> None:
    """Their starts have counted, however long ago."""
    limit(store, rate="1/second")
    tasks = [stored(store) for _ in range(3)]
    started: list[tuple[str, Entry]] = []

    def have_all_started() -> bool:
        store.limits.serve()
        started.extend(run(store))
        return len(started) == len(tasks)

    eventually(have_all_started)
    for number, (uid, entry) in enumerate(started):
        ends(store, uid, entry, lambda task, number=number: transitions.handed_back(task, ran=number > 0))
    assert [uid for uid, _ in run(store, 3)] == tasks
    assert raw.exists("sandbox:{0}:limit:started") == 0


@pytest.mark.parametrize("rate", ["7/minute", "2999/second", "999999/second"])
def test_all_that_a_burst_has_admitted_may_be_claimed_at_once(store: Store, rate: str) -> None:
    """By one command, at one moment; whatever is rounded."""
    limit(store, rate=rate, burst=300)
    tasks = [stored(store) for _ in range(300)]
    assert [uid for uid, _ in run(store, 300)] == tasks


def test_a_key_that_is_pushed_back_starts_nothing_until_then(store: Store) -> None:
    limit(store, concurrency=2)
    tasks = [stored(store) for _ in range(4)]
    [one, two] = fetched(store)
    claimed(store, [one])
    found = store.read(one.uid)
    assert found is not None
    begun = time.monotonic()
    store.limits.push_back(found.task, 0, "per-customer", 0.5)

    assert len(claimed(store, [two]).paused) == 1, "what was admitted is held up, too"
    ends(store, one.uid, one)
    assert fetched(store) == []

    eventually(lambda: store.limits.serve() > 0 and len(fetched(store)) == 2)
    assert time.monotonic() - begun >= 0.49
    assert blocked(store, tasks[3]) == "per-customer"


def test_who_pushes_a_key_back_for_less_does_not_let_it_go_earlier(store: Store, raw: redis.Redis) -> None:
    limit(store, concurrency=2)
    for _ in range(2):
        stored(store)
    for (uid, _), seconds in zip(run(store), (60, 1), strict=True):
        found = store.read(uid)
        assert found is not None
        store.limits.push_back(found.task, 0, "per-customer", seconds)
    [held] = raw.keys("sandbox:*limit:held:*")
    assert raw.pttl(held) > 30_000
    store.limits.push_back(found.task, 0, "per-customer", 90)
    assert raw.pttl(held) > 60_000


def test_what_a_newer_release_says_in_a_rule_is_passed_over(store: Store, raw: redis.Redis) -> None:
    limit(store, concurrency=1, overrides={"acme": Bounds(2)})
    name = keys.limits(0)
    head = raw.hget(name, "per-customer").rpartition(b" ")[0]
    newer = {"key": BY_CUSTOMER, "concurrency": 1, "per": "host", "overrides": {"acme": {"concurrency": 2, "until": 9}}}
    raw.hset(name, "per-customer", head + b" " + msgspec.json.encode(newer))
    store.limits.look_anew()
    rule = LimitRule(BY_CUSTOMER, 1, overrides={"acme": Bounds(2)})
    assert store.limits.now()["per-customer"].rule == store.limits.rules(0)["per-customer"] == rule
    tasks = [stored(store) for _ in range(3)]
    assert [uid for uid, _ in run(store)] == tasks[:2]


def test_what_limits_say_is_remembered_while_their_partition_is_away(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*args: Any, **named: Any) -> Any:
        raise StoreUnavailable("it is away")

    limit(store, concurrency=1)
    known = store.limits.rules(0)
    monkeypatch.setattr("service.store.limits.REMEMBERED_SECONDS", 0.0)
    monkeypatch.setattr(store._wire, "call", away)
    assert store.limits.rules(0) == known != {}
    store.limits.look_anew()
    with pytest.raises(StoreUnavailable):
        store.limits.rules(0)


# --- who does not belong there --------------------------------------------------------------------------


def test_who_takes_up_a_place_and_does_not_belong_there_leaves_it(store: Store, raw: redis.Redis) -> None:
    limit(store, concurrency=1)
    tasks = [stored(store) for _ in range(4)]
    [entry] = fetched(store)
    assert entry.text is not None
    before = decode(entry.text)
    unaware = transitions.claimed(before, Claim("a", "t", entry.stream, entry.id))  # of a release that names no limit
    assert store.move([Change(entry.text, before, unaware, entry)], consumer="a").stored
    assert fetched(store) == []
    assert (sum(store.limits.vacate()), sum(store.limits.vacate())) == (1, 0)
    [(second, _)] = run(store)
    assert second == tasks[1]

    raw.delete(second)  # lost with a server
    assert sum(store.limits.vacate()) == 1
    assert uids(fetched(store)) == [tasks[2]]
    assert sum(store.limits.vacate()) == 0, "who is admitted, and who runs, stays"


def test_who_does_not_belong_at_one_of_its_places_leaves_all_of_them(store: Store) -> None:
    """As after a reload to a release that names no limits, and another one back."""
    limit(store, concurrency=1)
    limit(store, "line", key=None, concurrency=1)
    first, second = stored(store, type="call"), stored(store, type="call")
    [entry] = fetched(store)
    assert entry.text is not None
    before = decode(entry.text)
    unaware = transitions.claimed(before, Claim("a", "t", entry.stream, entry.id))
    [(_, document)] = store.move([Change(entry.text, before, unaware, entry)], consumer="a").stored
    assert sum(store.limits.vacate()) == 1
    back = transitions.handed_back(document.task, ran=True)
    assert store.move([Change(document.text, document.task, back, entry)]).stored

    for expected in (second, first):
        [(uid, entry)] = run(store)
        assert uid == expected
        ends(store, uid, entry)


def test_a_place_that_is_kept_by_who_waits_for_it_becomes_free(store: Store, raw: redis.Redis) -> None:
    """A release of before might leave that."""
    limit(store, concurrency=1)
    first, second = stored(store), stored(store)
    raw.hdel(keys.limit(0, "tasks"), first)
    [entry] = fetched(store)
    assert claimed(store, [entry]).paused, "it stands in its own way"
    assert sum(store.limits.vacate()) == 1
    assert [uid for uid, _ in run(store)] == [first]
    assert blocked(store, second) == "per-customer"


def test_what_waits_at_a_limit_that_its_type_names_no_more_is_let_go(server: RedisServer, store: Store) -> None:
    @task("ring")
    def ring(context: Any, customer: str = "nobody") -> None: ...

    limit(store, "line", key=None, concurrency=1)
    first, call, *rest = [stored(store, type=each) for each in ("ring", "call", *["ring"] * 5)]
    newer = Store(connect(server.url, SCRIPTS))
    newer.limits.know([*TYPES[:3], ring.__sandbox_task__])  # type: ignore[attr-defined]

    assert sum(newer.limits.vacate()) == 1
    started = run(newer)
    assert [uid for uid, _ in started] == [first, call]
    ends(newer, *started[1])
    assert sum(newer.limits.vacate()) == 5, "at once, before anybody has claimed one of them"
    assert [uid for uid, _ in run(newer)] == rest
    newer.close()


def test_what_is_set_aside_for_a_paused_type_takes_up_no_place(store: Store) -> None:
    limit(store, concurrency=1)
    first, second = stored(store), stored(store, type="call")
    store.pauses.pause(TYPE, "mail", Pause(None, moments.stamp(time.time()), None, None))
    assert run(store) == []

    assert [uid for uid, _ in run(store)] == [second]
    store.pauses.resume(TYPE, "mail")
    store.lots.tell(["mail"])
    store.lots.unpark()
    assert run(store) == [] and blocked(store, first) == "per-customer"


# --- what a limit says changes ---------------------------------------------------------------------------


def test_a_key_may_have_bounds_of_its_own(store: Store) -> None:
    store.limits.put(
        "per-customer", LimitRule(key=BY_CUSTOMER, concurrency=1, overrides={"acme": Bounds(concurrency=3)})
    )
    for customer in ("acme", "other"):
        for _ in range(5):
            stored(store, customer)
    assert len(fetched(store)) == 4


def test_a_type_whose_limit_nobody_has_set_is_not_limited(store: Store, raw: redis.Redis) -> None:
    tasks = [stored(store) for _ in range(5)]
    assert [uid for uid, _ in run(store)] == tasks
    assert blocked(store, tasks[0]) is None and left(raw) == set()


@pytest.mark.parametrize("change", ["wider", "another key", "removed"])
def test_who_waits_is_looked_at_anew_when_the_limit_changes(store: Store, change: str) -> None:
    limit(store, concurrency=1)
    tasks = [stored(store) for _ in range(3)]
    first = run(store)
    if change == "removed":
        assert store.limits.remove("per-customer")
        while store.limits.serve() == 0:
            pass
    elif change == "wider":
        limit(store, concurrency=3)
    else:
        limit(store, key=None, concurrency=2)

    assert [uid for uid, _ in run(store)] == (tasks[1:3])
    ends(store, *first[0])


def test_who_goes_on_to_wait_at_another_place_is_woken_there(store: Store) -> None:
    limit(store, concurrency=1)
    limit(store, "line", None, rate="2/second")
    stored(store)
    [first] = run(store)
    second = stored(store, type="call")
    assert waiting(store) == {"per-customer": (1, 1)}
    stored(store, type="ring")
    [ringing] = run(store)
    ends(store, *ringing)
    ends(store, *first)
    assert blocked(store, second) == "line"

    def is_let_in() -> bool:
        store.limits.serve()
        return uids(fetched(store)) == [second]

    assert eventually(is_let_in, 10)


def test_what_was_admitted_before_a_limit_was_lowered_is_not_claimed_beyond_it(store: Store) -> None:
    limit(store, concurrency=2)
    both = {stored(store), stored(store)}
    limit(store, concurrency=1)
    [(first, entry)] = run(store)
    [second] = both - {first}
    assert blocked(store, second) == "per-customer"
    assert run(store) == []
    ends(store, first, entry)
    assert [uid for uid, _ in run(store)] == [second]


@pytest.mark.parametrize("before", [{"concurrency": 100}, {"rate": "1000/second", "burst": 100}])
def test_a_rate_also_binds_what_was_admitted_before_it_was_set(store: Store, before: dict[str, Any]) -> None:
    limit(store, **before)
    tasks = [stored(store) for _ in range(100)]
    limit(store, rate="1/second")
    started = run(store, 100)
    assert [uid for uid, _ in started] == [tasks[0]] and run(store) == []
    assert waiting(store) == {"per-customer": (99, 1)}

    def next_one() -> bool:
        store.limits.serve()
        return [uid for uid, _ in run(store)] == [tasks[1]]

    assert eventually(next_one, 10)


@pytest.mark.parametrize(
    "faster", [{"rate": "1000/second"}, {"rate": "1/day", "overrides": {"acme": Bounds(rate="1000/second")}}]
)
def test_a_higher_rate_holds_at_once(store: Store, faster: dict[str, Any]) -> None:
    limit(store, rate="10/day", burst=10)
    tasks = [stored(store) for _ in range(12)]
    assert len(run(store)) == 10
    limit(store, **faster)
    started: list[str] = []

    def next_ones() -> bool:
        store.limits.serve()
        started.extend(uid for uid, _ in run(store))
        return len(started) == 2

    assert eventually(next_ones, 10) and started == tasks[10:]


def test_two_limits_that_have_room_let_in_all_that_wait_at_either(store: Store) -> None:
    limit(store, concurrency=1)
    limit(store, "line", None, concurrency=1)
    made = stored_all(store, "acme", 500)
    store.limits.put("line", LimitRule(key=None, concurrency=1000))
    for _ in range(2):  # some go on to wait for the other limit
        store.limits.serve()
    assert sorted(waiting(store).values()) == [(200, 1), (299, 1)]
    store.limits.put("per-customer", LimitRule(key=BY_CUSTOMER, concurrency=1000))
    for _ in range(50):
        store.limits.serve()
    assert waiting(store) == {}
    assert sorted(uids(fetched(store, 1000))) == sorted(made)


def test_who_listens_hears_of_what_a_limit_lets_in(store: Store) -> None:
    limit(store, concurrency=1)
    first, second = stored(store), stored(store)
    [(uid, entry)] = run(store)
    assert uid == first
    with contextlib.closing(store._wire.subscribe(0, keys.changes(0))) as channel:
        ends(store, uid, entry)
        eventually(lambda: channel.next(1.0) == f"queued {second}".encode())


def test_one_command_moves_no_more_than_redis_does_in_a_moment(store: Store) -> None:
    limit(store, concurrency=1)
    limit(store, "line", None, concurrency=1)
    stored_all(store, "acme", 3000)
    store.limits.put("line", LimitRule(key=None, concurrency=100_000))
    stored_all(store, "acme", 100)  # each comes behind those who wait, and looks whether they may go on
    moved = {tasks for tasks, _ in waiting(store).values()}
    assert moved == {1000, 2099}


def test_one_command_admits_no_more_than_redis_does_in_a_moment(store: Store) -> None:
    limit(store, concurrency=1)
    stored_all(store, "acme", 3000)
    store.limits.put("per-customer", LimitRule(key=BY_CUSTOMER, concurrency=100_000))
    stored_all(store, "acme", 100)  # each comes behind those who wait, and serves them
    assert waiting(store) == {"per-customer": (2099, 1)}
    while store.limits.serve() == 0:
        pass
    assert waiting(store) == {}


def test_of_tasks_that_are_created_together_the_first_come_first(store: Store) -> None:
    limit(store, concurrency=100)
    args, now = msgspec.Raw(b'{"customer": "acme"}'), moments.stamp(time.time())
    made = [
        Task(uid=store.uid(random_prefix(), 0), type="mail", queue="default", args=args, status=QUEUED, created_at=now)
        for _ in range(50)
    ]
    some_free = [
        msgspec.structs.replace(each, uid=store.uid(random_prefix(), 0), type="free") if place % 3 else each
        for place, each in enumerate(made)
    ]
    assert store.create(some_free) == []
    bounded = {each.uid for each in some_free if each.type == "mail"}
    assert [uid for uid in uids(fetched(store)) if uid in bounded] == [each.uid for each in made[::3]]


def test_who_asks_again_and_again_has_many_places_counted_once_in_a_while(
    store: Store, raw: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(the_limits, "COUNTED_A_SECOND", 500)
    limit(store, concurrency=1)
    base = keys.base(0)
    for number in range(1001):
        raw.sadd(f"{base}limit:places", f"per-customer:x:{number}")
        raw.zadd(f"{base}limit:waiting:per-customer:x:{number}", {"a": 1})
    raw.config_resetstat()
    assert {store.limits.now()["per-customer"].keys for _ in range(10)} == {1001}
    assert raw.info("commandstats")["cmdstat_evalsha"]["calls"] < 10
    limit(store, concurrency=2)
    assert store.limits.now()["per-customer"].rule == LimitRule(key=BY_CUSTOMER, concurrency=2), "rules are fresh"
    raw.delete(f"{base}limit:places")
    eventually(lambda: store.limits.now()["per-customer"].keys == 0)


def test_a_limit_and_its_end_reach_all_partitions_that_answer(cluster: RedisCluster) -> None:
    wire = FaultyWire(cluster.url)
    store = Store(wire, partitions=4)
    wire.away = 1
    with pytest.raises(StoreUnavailable):
        store.limits.put("line", LimitRule(concurrency=1))
    assert ["line" in store.limits.rules(partition) for partition in (0, 2, 3)] == [True, True, True]
    with pytest.raises(StoreUnavailable):
        store.limits.remove("line")
    assert ["line" in store.limits.rules(partition) for partition in (0, 2, 3)] == [False, False, False]
    store.close()
