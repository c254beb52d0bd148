"""The store's transitions: any two steps may interleave, and a crash may come between any two Redis calls.

Several clients and runners (the service's own lanes, recovery and upkeep) work on one real Redis.
Hypothesis chooses who goes next, what becomes of each call, and who dies. After every single call
everything in Redis is read and held against what must be true; at the end a healthy runner must
be able to finish every accepted task, and leave nothing behind.
"""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from service.observe.metrics import Metrics
from service.runner import lane, recovery
from service.runner.firing import Firing
from service.store import QUEUE, SCRIPTS, TYPE, Pause, Store, keys
from service.store.connection import Wire, connect
from service.tasks import moments, transitions, unique
from service.tasks.document import CANCELLED, QUEUED, RUNNING, SCHEDULED, Task, Unique, decode
from service.tasks.limit_rule import LimitRule
from service.tasks.schedule import API, OVERLAPS, Schedule, look_at
from service.tasks.uid import prefix_for
from tests.servers import EMBEDDED, RedisCluster, RedisServer
from tests.store.stage import DEADLY, ENDS, QUEUES, RELEASES, Actor, Fate, Process, QuietWindow, Snapshot, client

CREATED = "2026-01-01T00:00:00.%06dZ"
LONG_AGO = "2026-01-01T00:00:00.000000Z"
KEYS = st.integers(0, 5)
CHOICES = st.integers(0, 20)
PAUSABLE = [(QUEUE, "default"), (TYPE, "work"), (TYPE, "new")]
RULES = [
    *[("finished", rule) for rule in ("return", "reject", "replace", "keep_last", "keep_last")],
    *[("started", rule) for rule in ("return", "reject", "replace")],
]
UNIQUE = st.none() | st.tuples(st.sampled_from("xy"), st.sampled_from(RULES))
SPOILT = b"no document"
LIMITS = ["few", "rare"]
SCHEDULES = ("daily", "other")
MOST_TIMES = 8
HOUR = 3600 * 1_000_000
LONG = 300 * 86400.0  # seconds: nothing is too late for a schedule here, and no second time is due
BOUNDS: list[dict[str, Any] | None] = [
    None, {"concurrency": 1}, {"concurrency": 2}, {"rate": "200/second"}, {"concurrency": 1, "rate": "200/second"},
]  # fmt: skip
PLANS = st.lists(st.sampled_from(ENDS), max_size=4)
ENOUGH_ROUNDS = 400
EXAMPLES = int(os.environ.get("SANDBOX_TEST_EXAMPLES", "0"))


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pause is taken for real: the order of the steps is the test's."""
    monkeypatch.setattr(lane, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(transitions, "postponement_seconds", lambda age_seconds: -1.0)
    monkeypatch.setattr(lane, "LARGEST_BATCH", 3)
    monkeypatch.setattr(lane, "BATCH_SECONDS", 1e9)
    monkeypatch.setattr(recovery, "LOOK_SECONDS", -1.0)
    monkeypatch.setattr(recovery, "UNHEARD_MS", 0)
    monkeypatch.setattr(lane, "LONG_SECONDS", -1.0)
    monkeypatch.setattr(lane, "Window", QuietWindow)
    monkeypatch.setattr(transitions, "backoff_seconds", lambda failures, share: 0.0)


class Transitions(RuleBasedStateMachine):
    wire: Wire
    partitions: int

    def __init__(self) -> None:
        super().__init__()
        self.home = tempfile.TemporaryDirectory(prefix="sandbox-")
        self.store = Store(self.wire, partitions=self.partitions)
        self.uids = [self.store.uid(prefix_for("", str(key))) for key in range(6)]
        for partition in range(self.partitions):
            self.wire.call(partition, ("FLUSHALL",))
        self.actors: list[Actor] = []
        self.processes: list[Process] = []
        self.created = 0
        self.accepted: set[str] = set()
        self.expired: set[str] = set()
        self.gone: set[tuple[str, str]] = set()  # what has expired, or was purged: UID and when it was created
        self.last: dict[str, bytes] = {}
        self.spoilt: set[str] = set()  # what cannot be read
        self.unread: set[str] = set()  # what could not, and is purged: its key is looked for later
        self.released: set[str] = set()  # what has started, and was to have its key until then
        self.last_schedule: dict[str, Schedule] = {}
        self.begun = self.store.schedules.now() - HOUR
        self.times: dict[str, list[str]] = {name: [] for name in SCHEDULES}  # the UIDs of the tasks for them

    # --- who there is ------------------------------------------------------------------------------

    @initialize(plans=st.lists(PLANS, min_size=2, max_size=4), robbers=st.lists(st.booleans(), min_size=1, max_size=2))
    def begin(self, plans: list[list[str]], robbers: list[bool]) -> None:
        """Some tasks wait, and somebody is there to run them."""
        for key, plan in enumerate(plans):
            self.create([key], plan, "work", scheduled=False)
            self._go_on(self.actors[-1], 1)
        for robber in robbers:
            self.start_runner(robber=robber, release="new")

    @precondition(lambda self: sum(process.alive for process in self.processes) < 3)
    @rule(robber=st.booleans(), release=st.sampled_from(sorted(RELEASES)))
    def start_runner(self, robber: bool, release: str) -> None:
        name = f"runner-{len(self.processes) + 1}"
        folder, known = Path(self.home.name), RELEASES[release]
        process = Process(name, self.wire, folder, partitions=self.partitions, known=known, robber=robber)
        self.processes.append(process)
        self._enter(Actor("runner", process.live, process))

    @precondition(lambda self: self.living())
    @rule(choice=CHOICES, duty=st.sampled_from(Process.DUTIES), steps=st.integers(0, 3))
    def do_duty(self, choice: int, duty: str, steps: int) -> None:
        process = self._chosen_process(choice)
        actor = Actor(duty, lambda: process.do_duty(duty), process)
        self._enter(actor)
        self._go_on(actor, steps)

    @precondition(lambda self: self.living())
    @rule(choice=CHOICES)
    def stop_runner(self, choice: int) -> None:
        self._chosen_process(choice).stopping.request()

    def living(self) -> list[Process]:
        return [process for process in self.processes if process.alive]

    def _enter(self, actor: Actor) -> None:
        """On to its first call, if it makes one at all."""
        if not actor.ended:
            self.actors.append(actor)

    # --- what clients ask for ------------------------------------------------------------------------

    @rule(
        keys=st.lists(KEYS, min_size=1, max_size=3, unique=True),
        plan=PLANS,
        type=st.sampled_from(["work", "work", "new"]),
        scheduled=st.booleans(),
        priority=st.sampled_from(["normal", "normal", "high", "low"]),
        wanted=UNIQUE,
    )
    def create(
        self,
        keys: list[int],
        plan: list[str],
        type: str,
        scheduled: bool,
        priority: str = "normal",
        wanted: tuple[str, tuple[str, str]] | None = None,
    ) -> None:
        homes = [self.store.partition(self.uids[key]) for key in keys]
        uids = [self.uids[key] for key, home in zip(keys, homes, strict=True) if home == homes[0]]
        self.created += 1
        new = [self._new(uid, plan, type, scheduled, priority) for uid in uids]

        def do(store: Store) -> None:
            if not store.create(new):
                self._accept(new)

        def do_unique(store: Store) -> None:
            self._accept(store.create_unique(new).new)

        if wanted is not None:
            key, (until, rule) = wanted
            new[0].unique = Unique(key, until, rule)
            if rule == "keep_last":
                new[0].status, new[0].run_at = QUEUED, None
        self._enter(client(do_unique if wanted else do, self.wire, self.partitions, "create"))

    def _accept(self, new: Sequence[Task]) -> None:
        """The answer is there; meanwhile it may have run, and been purged, or have expired."""
        self.accepted.update(task.uid for task in new if (task.uid, task.created_at) not in self.gone)

    def _note_gone(self, uid: str) -> None:
        self.expired.add(uid)
        self.accepted.discard(uid)
        if (text := self.last.pop(uid, None)) is not None:
            self.gone.add((uid, decode(text).created_at))

    @rule(
        keys=st.lists(KEYS, min_size=2, max_size=3, unique=True),
        wanted=UNIQUE.filter(bool),
        scheduled=st.booleans(),
        steps=st.integers(1, 3),
        choice=CHOICES,
        runs=st.integers(0, 6),
    )
    def create_with_one_key(
        self, keys: list[int], wanted: Any, scheduled: bool, steps: int, choice: int, runs: int
    ) -> None:
        """One after the other; before the last one has its way, somebody else goes on."""
        for key in keys:
            self.create([key], [], "work", scheduled=scheduled, wanted=wanted)
            if self.actors:
                self._go_on(self.actors[-1], 3 if key != keys[-1] else steps)
        if self.actors:
            self._go_on(self._chosen(choice), runs)

    def _new(self, uid: str, plan: list[str], type: str, scheduled: bool, priority: str) -> Task:
        return Task(
            uid=uid,
            type=type,
            queue="default",
            status=SCHEDULED if scheduled else QUEUED,
            args=msgspec.Raw(msgspec.json.encode({"ends": plan})),
            created_at=CREATED % self.created,
            run_at=LONG_AGO if scheduled else None,
            priority=priority,
        )

    @precondition(lambda self: self.living())
    @rule(key=KEYS, plan=PLANS, rule=st.sampled_from(RULES), choice=CHOICES)
    def meet_one_that_runs(self, key: int, plan: list[str], rule: tuple[str, str], choice: int) -> None:
        self.create([key], plan, "work", scheduled=False, wanted=("x", ("finished", "keep_last")))
        self._go_on(self.actors[-1], 3)
        process = self._chosen_process(choice)
        [runner] = [actor for actor in self.actors if actor.process is process and actor.name == "runner"]
        for _ in range(12):
            found = self.store.read(self.uids[key])
            if found is None or found.task.status == RUNNING or runner.ended:
                break
            self._go_on(runner, 1)
        self.create([(key + 1) % 6], plan, "work", scheduled=False, wanted=("x", rule))
        if self.actors:
            self._go_on(self.actors[-1], 3)

    @rule(key=KEYS, steps=st.integers(2, 4))
    def retry_two_that_share_a_key(self, key: int, steps: int) -> None:
        both = key, (key + 1) % 6
        for each in both:
            self.create([each], [], "work", scheduled=False, wanted=("x", ("finished", "return")))
            if self.actors:
                self._go_on(self.actors[-1], 3)
            self.cancel(each, 2)
        for each in both:
            self.retry(each, steps)

    @rule(key=KEYS, steps=st.integers(0, 2))
    def cancel(self, key: int, steps: int) -> None:
        self._change("cancel", key, lambda task: transitions.cancelled(task, LONG_AGO), steps)

    @rule(key=KEYS, steps=st.integers(0, 2))
    def retry(self, key: int, steps: int) -> None:
        self._change("retry", key, transitions.requeued, steps)

    @precondition(lambda self: self.actors)
    @rule(key=KEYS, choice=CHOICES, steps=st.integers(0, 5))
    def cancel_and_retry(self, key: int, choice: int, steps: int) -> None:
        """So that several entries point at one task, and somebody has seen it in between."""
        self.cancel(key, 2)
        if self.actors:
            self._go_on(self._chosen(choice), steps)
        self.retry(key, 2)

    def _change(self, name: str, key: int, transition: Any, steps: int) -> None:
        uid = self.uids[key]
        actor = client(lambda store: store.change(uid, transition), self.wire, self.partitions, name)
        self._enter(actor)
        self._go_on(actor, steps)

    @rule(what=st.sampled_from(PAUSABLE), steps=st.integers(0, 3))
    def pause(self, what: tuple[str, str], steps: int) -> None:
        told = Pause(None, LONG_AGO, None, None)
        self._enter(client(lambda store: store.pauses.pause(*what, told), self.wire, self.partitions, "pause"))
        if self.actors:
            self._go_on(self.actors[-1], steps)

    @rule(what=st.sampled_from(PAUSABLE), steps=st.integers(0, 3))
    def resume(self, what: tuple[str, str], steps: int) -> None:
        def do(store: Store) -> None:
            store.pauses.resume(*what)
            store.lots.unpark(2)

        self._enter(client(do, self.wire, self.partitions, "resume"))
        if self.actors:
            self._go_on(self.actors[-1], steps)

    @rule(key=KEYS, steps=st.integers(0, 3))
    def purge(self, key: int, steps: int) -> None:
        uid = self.uids[key]
        self._enter(client(lambda store: store.purge(uid), self.wire, self.partitions, "purge"))
        if self.actors:
            self._go_on(self.actors[-1], steps)

    @rule(key=KEYS, is_rare=st.integers(0, 3))
    def spoil(self, key: int, is_rare: int) -> None:
        """Something else writes where the document is."""
        uid = self.uids[key]
        if uid in self.last and not is_rare:
            self.wire.call(self.store.partition(uid) or 0, ("SET", uid, SPOILT, "KEEPTTL"))
            self.spoilt.add(uid)
            self.gone.add((uid, decode(self.last.pop(uid)).created_at))

    @rule(name=st.sampled_from(LIMITS), key=st.sampled_from([None, "args.ends"]), rule=st.sampled_from(BOUNDS))
    def limit(self, name: str, key: str | None, rule: dict[str, Any] | None) -> None:
        """Set, or removed. On a cluster a partition after the other: here at once, so that the rule is known."""
        if rule:
            self.store.limits.put(name, LimitRule(key=key, **rule))
        else:
            self.store.limits.remove(name)
        self.store.limits.serve()

    @precondition(lambda self: sum(map(len, self.times.values())) < MOST_TIMES)
    @rule(name=st.sampled_from(SCHEDULES), overlap=st.sampled_from(OVERLAPS), plan=PLANS, steps=st.integers(0, 3))
    def appoint(self, name: str, overlap: str, plan: list[str], steps: int) -> None:
        """A client makes a schedule, or edits it; its next time has come."""
        at = self.begun + sum(map(len, self.times.values()))
        uid = self.store.schedules.uid(name, at)
        self.times[name].append(uid)
        self.uids.append(uid)
        args = msgspec.Raw(msgspec.json.encode({"ends": plan}))

        def edited(before: Schedule | None, now: int) -> Schedule:
            stamp = moments.stamp_exactly(at)
            after = Schedule(name=name, type="work", source=API, created_at=stamp, changed_at=stamp, anchor=stamp)
            if before is not None:
                after.last, after.fired, after.waiting = before.last, before.fired, before.waiting
                after.revision = before.revision + 1
            after.args, after.every, after.overlap, after.catch_up = args, LONG, overlap, LONG
            after.next_at = stamp
            return after

        actor = client(lambda store: store.schedules.change(name, edited), self.wire, self.partitions, "appoint")
        self._enter(actor)
        self._go_on(actor, steps)

    @precondition(lambda self: self.living())
    @rule(choice=CHOICES, other=CHOICES, steps=st.lists(st.integers(0, 4), min_size=2, max_size=4))
    def fire(self, choice: int, other: int, steps: list[int]) -> None:
        """Two runners, or one twice, at the same time."""
        for place, count in enumerate(steps):
            if self.living():
                self.do_duty((choice, other)[place % 2], "fire", count)

    # --- what happens by itself ----------------------------------------------------------------------

    @rule(key=KEYS, steps=st.integers(0, 2))
    def promote(self, key: int, steps: int) -> None:
        home = self.store.partition(self.uids[key]) or 0
        actor = client(lambda store: store.promote(home, 2), self.wire, self.partitions, "promote")
        self._enter(actor)
        self._go_on(actor, steps)

    @rule(key=KEYS, expires=st.booleans())
    def sweep(self, key: int, expires: bool) -> None:
        uid = self.uids[key]
        home = self.store.partition(uid) or 0

        def do(store: Store) -> None:
            store.index.sweep([home], created_before=2**60, count=2, places={})

        self._enter(client(do, self.wire, self.partitions, "sweep"))
        found = self.store.read(uid)
        if expires and found is not None and found.is_readable and found.task.finished:
            for key in (uid, keys.log(home, uid), keys.attempts(home, uid)):
                self.wire.call(home, ("PEXPIRE", key, 0))
            self._note_gone(uid)

    # --- who goes next ---------------------------------------------------------------------------------

    @precondition(lambda self: self.actors)
    @rule(choice=CHOICES, steps=st.integers(1, 8))
    def go_on(self, choice: int, steps: int) -> None:
        self._go_on(self._chosen(choice), steps)

    @precondition(lambda self: self.actors)
    @rule(choices=st.lists(CHOICES, min_size=2, max_size=10))
    def take_turns(self, choices: list[int]) -> None:
        for choice in choices:
            if self.actors:
                self._go_on(self._chosen(choice), 1)

    @precondition(lambda self: self.actors)
    @rule(choice=CHOICES, steps=st.integers(0, 3), fate=st.sampled_from([*Fate][1:]))
    def meet_fate(self, choice: int, steps: int, fate: Fate) -> None:
        actor = self._chosen(choice)
        self._go_on(actor, steps)
        if not actor.ended:
            self.step(actor, fate)

    @precondition(lambda self: self.living())
    @rule(choice=CHOICES, steps=st.integers(0, 6), fate=st.sampled_from(DEADLY))
    def kill_runner(self, choice: int, steps: int, fate: Fate) -> None:
        process = self._chosen_process(choice)
        [actor] = [actor for actor in self.actors if actor.process is process and actor.name == "runner"]
        self._go_on(actor, steps)
        if not actor.ended:
            self.step(actor, fate)

    def _chosen(self, choice: int) -> Actor:
        return self.actors[choice % len(self.actors)]

    def _chosen_process(self, choice: int) -> Process:
        living = self.living()
        return living[choice % len(living)]

    def _go_on(self, actor: Actor, steps: int) -> None:
        for _ in range(steps):
            if not actor.ended:
                self.step(actor, Fate.GO)

    def step(self, actor: Actor, fate: Fate) -> None:
        actor.go(fate)
        if fate in DEADLY:
            self._bury(actor)
        self.actors = [actor for actor in self.actors if not actor.ended]
        self.check(actor)

    def _bury(self, actor: Actor) -> None:
        if actor.process is None:
            return
        actor.process.die()
        for thread in self.actors:
            if thread.process is actor.process:
                thread.die()

    # --- what must be true after every call -------------------------------------------------------------

    def check(self, actor: Actor) -> None:
        for partition in range(self.partitions):
            uids = [uid for uid in self.uids if self.store.partition(uid) == partition]
            if uids:
                snapshot = Snapshot(self.wire, self.store, partition, uids)
                self._note_purged(snapshot, uids, actor)
                self._check_partition(snapshot, uids)
                self._check_changes(snapshot, uids, actor)
        for name, uids in self.times.items():
            if uids:
                self._check_schedule(name, uids)

    def _check_schedule(self, name: str, uids: list[str]) -> None:
        found, home = self.store.schedules.read(name), self.store.partition(self.store.schedules.uid(name, 0)) or 0
        [score] = self.wire.call(home, ("ZSCORE", keys.timetable(home), name))
        assert (found is None) == (score is None), "a schedule has its place in the timetable"
        created = [uid for uid, text in zip(uids, self.store.texts(uids), strict=True) if text is not None]
        if found is None or found.schedule is None:
            assert created == [], "there are no tasks without their schedule"
            return
        schedule, before = found.schedule, self.last_schedule.get(name)
        seen = before is None or before == schedule or before.revision < schedule.revision
        assert seen, "nobody overwrites what it has not seen"
        self.last_schedule[name] = schedule
        assert schedule.fired == len(created), "each time that was fired has one task, and no other has"
        assert (schedule.last is not None) == bool(created)
        assert schedule.last is None or schedule.last.uid in created, "the last task is there"
        assert schedule.waiting or float(score) == look_at(schedule, 0), "it is looked at when its time comes"

    def _note_purged(self, now: Snapshot, uids: list[str], actor: Actor) -> None:
        for uid in uids:
            before = self.last.get(uid)
            is_known = uid in self.spoilt or (before is not None and decode(before).finished)
            if actor.name == "purge" and uid not in now.texts and is_known:
                if uid in self.spoilt:
                    self.unread.add(uid)
                self.spoilt.discard(uid)
                self._note_gone(uid)

    def _check_partition(self, now: Snapshot, uids: list[str]) -> None:
        waiting = set(now.entries.values()) | {uid for members in now.lots.values() for uid in members}
        waiting |= {uid for name, members in now.limits.items() if name.startswith("waiting:") for uid in members}
        assert waiting <= set(uids), "an entry, or a lot, points at nothing that was ever asked for"
        assert set(now.holders) <= set(now.entries), "an entry that is gone is still pending"
        known = {uid: decode(text) for uid, text in now.texts.items() if uid not in self.spoilt}
        for uid, task in known.items():
            self._note_released(uid, task)
        behind = self._check_unique(now, known)
        waiting |= behind
        scheduled = {uid for uid, task in known.items() if task.status == SCHEDULED}
        assert set(now.due) - self.spoilt == scheduled, "the due set holds the scheduled tasks, and no others"
        for uid, task in known.items():
            self._check_task(now, uid, task, waiting)
        for uid in set(uids) - self.spoilt:
            self._check_beside(now, uid)
        self._check_shelves(now, known)
        self._check_lots(now, known)
        self._check_places(now, known)

    def _note_released(self, uid: str, task: Task) -> None:
        before = decode(self.last[uid]) if uid in self.last else None
        if before is None or before.finished:
            self.released.discard(uid)
        if task.status == RUNNING and task.unique is not None and task.unique.until == "started":
            self.released.add(uid)

    def _check_unique(self, now: Snapshot, known: dict[str, Task]) -> set[str]:
        """Who has a key is on record, and nobody else is. Returns those that wait behind one of them."""
        owners = {uid for uid, task in known.items() if task.unique and not task.finished} - self.released
        for uid in owners:
            task = known[uid]
            assert task.unique is not None
            record = now.unique.get(unique.lock(task.type, task.unique), [])
            assert uid in record, "who has a unique key is on record"
        on_record = {uid for record in now.unique.values() for uid in record}
        assert on_record <= owners | self.spoilt | self.unread, "nobody keeps a key beyond its end"
        behind = {record[1] for record in now.unique.values() if len(record) > 1}
        for uid in behind & owners:
            assert known[uid].status == QUEUED or uid in self.expired, "who waits behind another one does not run"
        return behind

    def _check_lots(self, now: Snapshot, known: dict[str, Task]) -> None:
        admitted = {uid for name, members in now.limits.items() if name.startswith("admitted:") for uid in members}
        aside = {uid for members in now.lots.values() for uid in members}
        assert not (aside & admitted) - set(now.entries.values()), "what stands in a lot takes up no place"
        for name, members in now.lots.items():
            for uid, created in members.items():
                task = known.get(uid)
                if task is not None and moments.microseconds(task.created_at) == created:
                    assert name == f"{task.type}:{task.queue}:{task.priority}", "a task stands in its own lot"
                    assert task.status != CANCELLED, "what is cancelled leaves its lot"

    def _check_places(self, now: Snapshot, known: dict[str, Task]) -> None:
        """Of limits."""
        rules = self.store.limits.rules(0)
        held = {(place, uid) for uid, task in known.items() if task.claim for place in task.claim.places}
        for name, everybody in now.limits.items():
            kind, _, place = name.partition(":")
            members = set(everybody) - self.spoilt - self.unread  # whom nobody can read is looked for later
            if kind == "claims":
                assert {(place, uid) for uid in members} <= held, "a place is a running task's"
            if kind == "admitted":
                assert {known[uid].status for uid in members} <= {QUEUED}, "who is admitted is queued"
            if kind == "waiting":
                assert {known[uid].status for uid in members} <= {QUEUED}, "who waits is queued"
                taken = len(now.limits.get(f"claims:{place}", ())) + len(now.limits.get(f"admitted:{place}", ()))
                rule = rules.get(place.partition(":")[0])
                is_full = rule is not None and rule.mode == place.split(":")[1] and taken >= (rule.concurrency or 99)
                assert is_full or place in now.limits.get("wakes", ()), "who waits is let in by somebody"
        for place, uid in held:
            if (rule := rules.get(place.partition(":")[0])) and rule.mode == place.split(":")[1]:
                assert uid in now.limits.get(f"claims:{place}", ()), "a claim has its place"

    def _check_claim(self, now: Snapshot, task: Task) -> None:
        """A claim that is new."""
        rules = self.store.limits.rules(0)
        for place in task.claim.places if task.claim else ():
            rule = rules.get(place.partition(":")[0])
            if rule is not None and rule.mode == place.split(":")[1]:
                assert len(now.limits[f"claims:{place}"]) <= (rule.concurrency or 99), "no more than the limit says"

    def _check_task(self, now: Snapshot, uid: str, task: Task, waiting: set[str]) -> None:
        assert (task.uid, task.claim is not None) == (uid, task.status == RUNNING)
        assert (now.ttl[uid] > 0) == task.finished, "what has finished expires, and nothing else"
        if task.status == QUEUED:
            assert uid in waiting, "a queued task has an entry, or stands in a lot"
        if task.status == SCHEDULED:
            assert uid in now.due, "a scheduled task has a due time"
        if task.claim is not None:
            place = (task.claim.stream, task.claim.entry)
            assert now.entries.get(place) == uid, "a running task's entry is in its stream"
            assert place in now.holders, "a running task's entry is pending"

    def _check_beside(self, now: Snapshot, uid: str) -> None:
        left, beside = now.ttl[uid], now.ttls_beside[uid]
        assert not beside or uid in now.texts, "log and attempts go with the document"
        assert all((each > 0) == (left > 0) and abs(each - left) < 1000 for each in beside), "they live as long"
        assert len(set(now.lines[uid])) == len(now.lines[uid]), "a line is stored once"
        [attempts] = [self.store.logbook.attempts(uid)[1]]
        assert all(attempt.outcome for attempt in attempts[:-1]), "an attempt that is over is told with its outcome"

    def _check_shelves(self, now: Snapshot, known: dict[str, Task]) -> None:
        for uid, task in known.items():
            created = moments.microseconds(task.created_at)
            name = f"{task.type}:{task.queue}:{task.status}"
            places = [shelf for shelf, members in now.shelves.items() if members.get(uid) == created]
            assert places == [name], "a document stands on its shelf, and on no other"
        for members in now.shelves.values():
            for uid, created in members.items():
                of_this = uid in known and moments.microseconds(known[uid].created_at) == created
                assert of_this or uid in self.expired | self.spoilt, "a shelf points at nothing that was"

    def _check_changes(self, now: Snapshot, uids: list[str], actor: Actor) -> None:
        for uid in uids:
            if uid in self.spoilt:
                assert now.texts[uid] == SPOILT, "what cannot be read stays"
                continue
            before, after = self.last.get(uid), now.texts.get(uid)
            assert after is not None or (before is None and uid not in self.accepted), "an accepted task is lost"
            if after is None:
                continue
            if before is not None and after != before:
                old, new = decode(before), decode(after)
                assert new.revision > old.revision, "a revision counts up"
                assert not old.finished or actor.name == "retry", "only a client's retry changes what has finished"
                paused = {f"queue:{new.queue}", f"type:{new.type}"} & now.pauses
                assert not (old.status == QUEUED and new.status == RUNNING and paused), "nothing paused is claimed"
                if old.status == QUEUED and new.status == RUNNING:
                    self._check_claim(now, new)
                if new.claim is not None and new.claim != old.claim:
                    holder = now.holders[new.claim.stream, new.claim.entry]
                    assert holder == new.claim.consumer, "who claims holds the entry"
            self.last[uid] = after

    # --- the end: a healthy runner finishes everything ----------------------------------------------------

    def teardown(self) -> None:
        try:
            self._finish()
        finally:
            for actor in self.actors:
                actor.die()
            self.home.cleanup()

    def _finish(self) -> None:
        for actor in self.actors:
            actor.die()
        for process in self.living():
            process.die()
        self.actors = []
        for uid in self.spoilt:
            self.store.purge(uid)
            self.accepted.discard(uid)
            self.expired.add(uid)
        self.unread |= self.spoilt
        self.spoilt = set()
        for what in PAUSABLE:
            self.store.pauses.resume(*what)
        self.store.lots.tell([each.name for each in RELEASES["new"]])
        self.start_runner(robber=False, release="new")
        [runner], healthy = self.actors, self.processes[-1]
        firing = Firing(self.store, registry=RELEASES["new"], metrics=Metrics())
        for _ in range(ENOUGH_ROUNDS):
            if self._is_over(healthy):
                break
            self._look_at_once()
            self._promote_all()
            firing.fire()
            self.store.lots.unpark()
            self._look_for_keys()
            self.store.limits.serve()
            sum(self.store.limits.vacate())
            for _ in range(4):
                self.step(runner, Fate.GO)
        else:
            raise AssertionError(f"not finished: {self._left()}, {self._consumers()}")
        healthy.stopping.request()
        while not runner.ended:
            self.step(runner, Fate.GO)
        assert self._consumers() == set(), "a consumer is left"

    def _look_at_once(self) -> None:
        """Nobody waits for real until what stands in line is looked at again."""
        for name in SCHEDULES:
            home = self.store.partition(self.store.schedules.uid(name, 0)) or 0
            found = self.store.schedules.read(name)
            if found is not None and found.schedule is not None and found.schedule.waiting:
                self.wire.call(home, ("ZADD", keys.timetable(home), 0, name))

    def _unfired(self) -> list[str]:
        """Schedules whose time has come, or waits."""
        found = [each.schedule for each in self.store.schedules.all() if each.schedule is not None]
        now = moments.stamp_exactly(self.store.schedules.now())
        return [each.name for each in found if each.waiting or str(each.next_at) < now]

    def _promote_all(self) -> None:
        for partition in range(self.partitions):
            self.store.promote(partition, 100)

    def _look_for_keys(self) -> None:
        for partition in range(self.partitions):
            self.store.unique_keys.look(partition, "0", 100)

    def _left(self) -> list[Any]:
        left: list[Any] = []
        for partition in range(self.partitions):
            uids = [uid for uid in self.uids if self.store.partition(uid) == partition]
            now = Snapshot(self.wire, self.store, partition, uids)
            left += [task for task in map(decode, now.texts.values()) if not task.finished]
            at_limits = {
                uid
                for name, members in now.limits.items()
                for uid in (members[::2] if name == "tasks" else members)  # each with what is known of it
            } - self.unread  # they harm nobody
            left += filter(None, (now.entries, now.holders, now.due, now.lots, at_limits, now.unique))
        return left + self._unfired()

    def _is_over(self, healthy: Process) -> bool:
        return not self._left() and self._consumers() <= {healthy.presence.consumer}

    def _consumers(self) -> set[str]:
        return {name for partition in range(self.partitions) for name in self.store.queues.consumers(partition, QUEUES)}


def explore(url: str, partitions: int, examples: int) -> None:
    wire = connect(url, SCRIPTS)
    machine = type("Transitions", (Transitions,), {"wire": wire, "partitions": partitions})
    profile = settings(
        phases=(Phase.explicit, Phase.generate),
        max_examples=EXAMPLES or examples,
        stateful_step_count=40,
        deadline=None,
        derandomize=not EXAMPLES,
        database=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    try:
        run_state_machine_as_test(machine, settings=profile)
    finally:
        wire.close()


def test_nothing_is_lost_whatever_the_order_and_whoever_dies(server: RedisServer, server_kind: str) -> None:
    """The second kind is led through the beginning of the same; what differs there, other tests of the store see."""
    explore(server.url, partitions=1, examples=250 if server_kind == EMBEDDED else 60)


def test_nothing_is_lost_on_a_cluster(cluster: RedisCluster) -> None:
    explore(cluster.url, partitions=4, examples=60)
