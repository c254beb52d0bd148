"""Claim → run → settle, one task after the other. A runner has one lane per thread.

A lane fetches a batch while recent tasks were short, and one task while they are not. What it has claimed moves from
`holdings.waiting` over `running` to `holdings.ended`. When a long task holds up the lane, the upkeep thread takes
what waits and what has ended. Both take by popping from a deque, so each claim has one owner.
"""

import itertools
import logging
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Final

import msgspec

from service.errors import Interrupted, StoreUnavailable
from service.observe.sentry import NO_ERRORS, Errors
from service.runner import attempt, outcomes, programs, triage
from service.runner.alarm import Alarm
from service.runner.holdings import Held, Holdings
from service.runner.journal import Report
from service.runner.leash import Leash
from service.runner.lockfile import HELD_UP_SECONDS, NEVER, Presence, token
from service.runner.news import Ear, News
from service.runner.order import Order, Turn
from service.runner.outcomes import Transition
from service.runner.recovery import Recovery
from service.runner.stop import Stop
from service.runner.triage import Finding, Verdict
from service.runner.window import Window
from service.runner.zygote import Zygote, ZygoteGone
from service.store import Change, Entry, Store, by_partition
from service.tasks import moments, transitions
from service.tasks.context import Context, Create
from service.tasks.declare import TaskType
from service.tasks.document import QUEUED, Claim, Task
from service.tasks.limit_rule import is_set
from service.tasks.registry import Registry

LARGEST_BATCH: Final = 128
BATCH_SECONDS: Final = 0.02
WAIT_SECONDS: Final = 1.0
APART_SECONDS: Final = 0.25
PAUSE_SECONDS: Final = 0.25
HARD_SECONDS: Final = 2.0
ALARM_SECONDS: Final = 0.5
LONG_SECONDS: Final = 0.08
SURE_SECONDS: Final = HELD_UP_SECONDS - 0.5

log = logging.getLogger("sandbox.runner")


class Running:
    """The attempt under way, as other threads see it."""

    __slots__ = ("begun", "context", "deadline", "held", "published", "started", "window")

    def __init__(self, held: Held, context: Context, window: Window) -> None:
        timeout = held.document.task.timeout
        self.held = held
        self.context = context
        self.window = window
        self.started = time.time()
        self.begun = time.monotonic()
        self.deadline = NEVER if timeout is None else self.begun + timeout
        self.published = context.news

    def is_long(self) -> bool:
        return time.monotonic() - self.begun > LONG_SECONDS

    def interrupt(self, reason: type[Interrupted]) -> None:
        self.context.cancelled = True
        self.window.interrupt(reason)


class Lane:
    def __init__(
        self,
        number: int,
        *,
        store: Store,
        registry: Registry,
        presence: Presence,
        report: Report,
        queues: Sequence[str],
        stopping: Stop,
        alarm: Alarm,
        lease_seconds: float,
        grace_seconds: float,
        recovery: Recovery,
        errors: Errors = NO_ERRORS,
        weights: Mapping[str, int] | None = None,
        create: Create | None = None,
        zygote: Zygote | None = None,
        news: News | None = None,
    ) -> None:
        """`create` is for handlers that create tasks. Without a zygote no type may want a process for each attempt.
        Lanes share the news.
        """
        self.number = number
        self.holdings = Holdings(store, report)
        self.running: Running | None = None
        self.fetched = 0.0
        self.renewed = 0.0
        self.is_over = False
        self.take_signals: Callable[[], None] = _no_signals  # in the main thread: the runner's
        self._store = store
        self._registry = registry
        self._presence = presence
        self._report = report
        self._queues = queues
        self._order = Order(queues, weights)
        self._stopping = stopping
        self._alarm = alarm
        self._lease = lease_seconds
        self._grace = grace_seconds
        self._recovery = recovery
        self._errors = errors
        self._create = create
        self._apart: Callable[[TaskType, Context, Task, Leash, Errors], Transition] | None = None
        if zygote is not None:
            from service.runner import apart  # most runners need neither it nor what it imports: half a megabyte

            self._apart = partial(apart.run, zygote)
        self._pace = BATCH_SECONDS
        self._plenty = True
        self._numbers = itertools.count(1)
        self._partitions = deque(range(store.partitions))
        self._partitions.rotate(-number)
        self._rounds = defaultdict[Turn, deque[int]](self._partitions.copy)
        self._is_together = len(store.groups) == 1
        self._limited = store.limits.types
        self._ear = Ear(news or News(store))

    def is_behind(self) -> bool:
        """Because of a task that takes long, or several that do together."""
        return time.monotonic() - self.fetched > LONG_SECONDS

    # --- the loop ------------------------------------------------------------------------------

    def work(self) -> None:
        """Until the runner stops. No error ends a lane: its tasks would wait for ever."""
        while not self._stopping.is_set():
            try:
                self._cycle()
            except Exception as error:
                self._pick_up_after(error)
        self._ear.close()
        try:
            self._settle()
        except Exception as error:
            log.error("%d outcomes are lost, their tasks run again", len(self.holdings.ended), exc_info=error)
        self.is_over = True

    def _pick_up_after(self, error: Exception) -> None:
        if isinstance(error, StoreUnavailable):
            log.warning("%s; trying again", error, extra={"once": "store"})
            self._recovery.lost_contact()
        else:
            log.error("a batch was cut short", exc_info=error, extra={"once": "lane"})
        self.running = None
        self._alarm.set(self.number, NEVER)
        self._presence.clear(self.number)
        self._plenty = False
        self.holdings.start_over()
        self._stopping.wait(PAUSE_SECONDS)

    def _cycle(self) -> None:
        begun = time.monotonic()
        found = self._recovery.findings() or self._find()
        self.holdings.keep(finding.entry for finding in found)
        self.fetched, self.renewed = time.monotonic(), begun
        if found:
            self._ear.close()
        alone = [finding for finding in found if _has_crashed(finding)]
        together = [finding for finding in found if not _has_crashed(finding)] if alone else found
        for batch in (together, *([finding] for finding in alone)):
            if batch:
                self._work_off(batch)

    def _find(self) -> list[Finding]:
        """Settles what has ended, and finds fresh entries, or waits a moment for them.

        After a fetch that found less than it asked for, it waits rather than fetching once more.
        """
        count = min(LARGEST_BATCH, max(1, int(BATCH_SECONDS / self._pace)))
        entries: list[Entry] = []
        if self._plenty and self._is_together and not self.holdings.again:
            entries = self._settle_and_fetch(count)
        else:
            self._settle()
        if not entries and self.holdings.again:
            found = self._judge_again()
            if found or not self.holdings.again:
                return found
        if not entries and self._plenty and not self._is_together:
            entries = self._fetch(count)
        return triage.judge_all(entries or self._wait(count), self._registry)

    def _settle_and_fetch(self, count: int) -> list[Entry]:
        """In one round trip. Each partition comes first in turn, of fetches that ask in the same order: with one round
        for all, it might be the same partitions each time that begin with `low`.
        """
        turn, consumer = self._order.next(), self._presence.consumer
        partitions = self._rounds[turn]
        partitions.rotate(-1)
        entries = self.holdings.settle_and_fetch(partitions[0], turn.queues, consumer, count, turn.priorities)
        self._plenty = len(entries) == count
        return entries

    def _fetch(self, count: int) -> list[Entry]:
        """Where partitions are apart: each is asked for the first queue before any is for the second."""
        turn, consumer = self._order.next(), self._presence.consumer
        partitions = self._rounds[turn]
        for queue in turn.queues:
            for _ in range(len(partitions)):
                partitions.rotate(-1)
                if entries := self._store.queues.fetch(partitions[0], [queue], consumer, count, turn.priorities):
                    return entries
        self._plenty = False
        return []

    def _wait(self, count: int) -> list[Entry]:
        """Where partitions are apart, it can wait at one of them only: before that it looks at each of the others. When
        nothing has come for a while it listens.
        """
        if not self._is_together and self._ear.listens():
            heard = self._ear.wait(self._order.next(), self._presence.consumer, count)
            self._plenty = bool(heard)
            return heard
        entries: list[Entry] = []
        for wait in [WAIT_SECONDS] if self._is_together else [*[0.0] * (len(self._partitions) - 1), APART_SECONDS]:
            self._partitions.rotate(-1)
            entries = self._store.queues.wait(self._partitions[0], self._queues, self._presence.consumer, count, wait)
            if entries:
                break
        self.holdings.keep(entries)  # known before anything else can fail
        self._plenty = bool(entries)
        return self._store.read_again(entries)

    def _judge_again(self) -> list[Finding]:
        """What lies in a partition that is away is judged later; where they are apart, others do not wait for it."""
        found: list[Finding] = []
        for entries in by_partition(self.holdings.taken_again(), attrgetter("partition")).values():
            try:
                found += self._judge_anew(entries)
            except StoreUnavailable as error:
                self.holdings.again.extend(entries)
                if self._is_together:
                    raise
                self._recovery.lost_contact()
                log.warning("%s; %d entries wait for it", error, len(entries), extra={"once": "store"})
        return found

    def _judge_anew(self, entries: Sequence[Entry]) -> list[Finding]:
        ours = [entry for entry in entries if self._renewed(entry)]
        found = self._store.read_again(ours)
        self.holdings.release(set(entries).difference(ours))
        own = [entry._replace(owner=self._presence.consumer) for entry in found]
        return self._recovery.judge_own(own)

    def _renewed(self, entry: Entry) -> bool:
        return entry in self._store.queues.renew(entry.partition, self._presence.consumer, [entry])

    def _work_off(self, findings: Sequence[Finding]) -> None:
        self._settle()
        waiting = self.holdings.waiting
        waiting.extend(self._claim(findings))
        begun, count = time.perf_counter(), 0
        while waiting and not self._stopping.is_set():
            try:
                held = waiting.popleft()
            except IndexError:
                break  # the upkeep thread was quicker
            self._run(held)
            count += 1
        if count:
            self._presence.clear(self.number)
        self._pace = (self._pace + 3 * (time.perf_counter() - begun) / max(1, count)) / 4
        self.holdings.hand_back_waiting()

    def _settle(self) -> None:
        """Tries until Redis answers. At the end of the grace time it gives up, and others run the tasks again. Where
        partitions are apart, the outcomes of one that is away wait for the next time.
        """
        while True:
            try:
                return self.holdings.settle_ended()
            except StoreUnavailable as error:
                self._recovery.lost_contact()
                log.warning("%s; %d outcomes wait for it", error, len(self.holdings.ended), extra={"once": "store"})
                if self._stopping.seconds() > self._grace:
                    log.error("%s; %d outcomes are lost, their tasks run again", error, len(self.holdings.ended))
                    return None
                if not self._is_together and not self._stopping.is_set():
                    return None
                time.sleep(PAUSE_SECONDS)

    # --- claim ---------------------------------------------------------------------------------

    def _claim(self, findings: Sequence[Finding]) -> list[Held]:
        """Takes what may run, and clears away the rest."""
        changes: list[Change] = []
        others: list[Finding] = []
        for finding in findings:
            entry, document, verdict, event_id = finding
            if document is None or verdict not in triage.CLAIMS:
                others.append(finding)
                continue
            consumer, task, asked = self._presence.consumer, document.task, ""
            claim = Claim(
                consumer, token(consumer, self.number, next(self._numbers), entry.uid), entry.stream, entry.id
            )
            if task.type in self._limited or (task.claim is not None and task.claim.places):
                asked, claim = self._bounded(task, entry, claim)
            after = transitions.claimed(task, claim, crashed=verdict is Verdict.CLAIM_AFTER_CRASH)
            changes.append(Change(document.text, task, after, entry, event_id=event_id, asked=asked))
        if others:
            self._clear_away(others)
        moved = self._store.move(changes, consumer=self._presence.consumer)
        if moved.refused:  # somebody changed them since
            self.holdings.look_again(change.entry for change in moved.refused if change.entry)
            self._store.limits.look_anew()
        if moved.paused:
            self.holdings.release(change.entry for change in moved.paused if change.entry)
            self._plenty = True  # the next fetch learns what is paused
        return [Held(change.entry, document) for change, document in moved.stored if change.entry]

    def _bounded(self, task: Task, entry: Entry, claim: Claim) -> tuple[str, Claim]:
        """The places of limits that a claim asks for. One that is taken over keeps the places that it has."""
        if task.claim is not None:
            return "", msgspec.structs.replace(claim, places=task.claim.places)
        asked = self._store.limits.asked(entry.partition, task)
        return asked, msgspec.structs.replace(claim, places=tuple(asked.split()) if is_set(asked) else ())

    def _clear_away(self, findings: Sequence[Finding]) -> None:
        """Drops what is stale, leaves what cannot be read, and writes down of the rest that it is to be run later, or
        never.
        """
        stale = [finding.entry for finding in findings if finding.verdict is Verdict.DROP]
        aside = [finding for finding in findings if finding.verdict not in (Verdict.DROP, Verdict.LEAVE)]
        for finding in findings:
            if finding.verdict is Verdict.LEAVE:
                _tell_of_unreadable(finding)
        parked = self._park(aside)
        aside = [finding for finding in aside if finding.entry not in parked]
        postponed = {finding.entry for finding in aside if finding.verdict is Verdict.POSTPONE}
        refused = set(self._store.queues.drop(self._presence.consumer, stale))
        moved = self._store.move([_put_aside(finding) for finding in aside])
        refused.update(change.entry for change in moved.refused if change.entry)
        self._report.outcomes([document.task for change, document in moved.stored if change.entry not in postponed])
        self.holdings.release(finding.entry for finding in findings if finding.entry not in refused)
        self.holdings.look_again(refused)

    def _park(self, findings: Sequence[Finding]) -> set[Entry]:
        """Sets aside what waits of types that no runner has known for a while."""
        unknown = [
            (finding.entry, finding.document.task)
            for finding in findings
            if finding.verdict is Verdict.POSTPONE and finding.document and self._is_unknown(finding.document.task)
        ]
        kept = self._store.lots.park(self._presence.consumer, unknown)
        return {entry for entry, _ in unknown}.difference(kept)

    def _is_unknown(self, task: Task) -> bool:
        return task.status == QUEUED and self._registry.get(task.type) is None

    # --- run -----------------------------------------------------------------------------------

    def _run(self, held: Held) -> None:
        """A neighbour takes over what is not renewed for HELD_UP_SECONDS, and then looks at the marks. So first comes
        the mark, and then the look at the clock.
        """
        name = held.token.encode()
        self._presence.mark(self.number, name)
        sure_seconds = min(SURE_SECONDS, self._lease / 2)
        if time.monotonic() - self.renewed > sure_seconds and not self._still_ours(held):
            self._presence.clear(self.number)
            self.holdings.look_again([held.entry])
            return
        task = held.document.task
        task_type = self._registry.get(task.type)
        assert task_type is not None  # triage has seen to it
        window = Leash() if task_type.process else Window()
        context = Context(task, partial(programs.run, window), self._create)
        running = Running(held, context, window)
        is_timed = task.timeout is not None and not task_type.process  # a process is killed without an alarm
        if is_timed:
            self._presence.mark(self.number, name, running.deadline)
            self._alarm.set(self.number, running.deadline + HARD_SECONDS + ALARM_SECONDS)
        self.running = running
        self._errors.begin()
        if isinstance(window, Leash):
            held.transition = self._run_apart(task_type, context, task, window)
        else:
            held.transition = attempt.run(task_type, context, task, window, self._errors)
            programs.end_left(window)
            self.take_signals()  # again: the handler may have changed them, as what runs on asyncio does
        self.running = None
        held.lines = context.lines
        held.pushed_back = context.pushed_back
        if is_timed:
            self._alarm.set(self.number, NEVER)
        self.holdings.ended.append(held)

    def _run_apart(self, task_type: TaskType, context: Context, task: Task, leash: Leash) -> Transition:
        assert self._apart is not None
        try:
            return self._apart(task_type, context, task, leash, self._errors)
        except ZygoteGone as error:
            log.error("%s; this runner ends, to be replaced", error)
            self._stopping.request()
            return outcomes.hand_back_unstarted

    def _still_ours(self, held: Held) -> bool:
        """After a long pause (a handler that held the interpreter, a busy machine) somebody may have taken over."""
        return self._renewed(held.entry) and self._store.texts([held.entry.uid]) == [held.document.text]


def _no_signals() -> None:
    """Other threads hear none."""


def _has_crashed(finding: Finding) -> bool:
    return finding.document is not None and finding.document.task.crashes > 0


def _tell_of_unreadable(finding: Finding) -> None:
    assert finding.document is not None
    uid, problem = finding.entry.uid, finding.document.problem
    log.error("task %s cannot run: %s; its entry stays in its queue", uid, problem, extra={"once": uid})


def _put_aside(finding: Finding) -> Change:
    assert finding.document is not None  # triage would have dropped it
    now, task = time.time(), finding.document.task
    if finding.verdict is Verdict.POSTPONE:
        log.warning("type %s, or a field, is unknown here: handed back", task.type, extra={"once": task.type})
        age = now - moments.microseconds(task.created_at) / 1e6
        after = transitions.postponed(task, moments.stamp(now + transitions.postponement_seconds(age)))
    elif finding.verdict is Verdict.FAIL_BY_TIMEOUT:
        after = outcomes.time_out_late(now, task, finding.event_id)
    else:
        after = outcomes.crash(task, now, finding.event_id)
    return Change(finding.document.text, task, after, finding.entry)
