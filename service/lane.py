"""Claim → run → settle, one task after the other.

A lane fetches a batch while recent tasks were short, and one task while they are not. What it has
claimed lies in three places: `waiting`, `running`, `ended`. The lane moves tasks from left to right;
the upkeep thread may at any moment take what waits (to hand it back) and what has ended (to settle
it), when a long task holds up the lane. Both take by popping from a deque, so each item has one owner.

A runner has one lane per thread; the one in the main thread is interrupted by a signal, which also
ends a blocking call, the others by an asynchronous exception.
"""

import ctypes
import itertools
import logging
import signal
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

from service import execution, triage
from service import task as tasks
from service.errors import Interrupted, SandboxError, StoreUnavailable
from service.execution import Context, Transition
from service.presence import NEVER, Presence
from service.recovery import NO_REMAINS, Recovery
from service.registry import Registry
from service.report import Report
from service.store import Change, Document, Entry, Store
from service.task import Claim
from service.triage import Finding, Verdict

LARGEST_BATCH: Final = 64
BATCH_SECONDS: Final = 0.02
WAIT_SECONDS: Final = 1.0
POSTPONE_SECONDS: Final = 2.0
PAUSE_SECONDS: Final = 0.25
HARD_SECONDS: Final = 2.0
ALARM_SECONDS: Final = 0.5

log = logging.getLogger("sandbox.runner")


class Stop:
    """The wish to stop; a signal handler may set it, because it is one assignment."""

    def __init__(self) -> None:
        self.since: float | None = None

    def request(self) -> None:
        if self.since is None:
            self.since = time.monotonic()

    def is_set(self) -> bool:
        return self.since is not None

    def seconds(self) -> float:
        """How long ago it was wished."""
        return 0.0 if self.since is None else time.monotonic() - self.since

    def wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self.since is None and (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.05))


class Held:
    """A claim that this runner holds: the document as stored, and the entry that it names."""

    __slots__ = ("document", "entry", "transition")

    def __init__(self, entry: Entry, document: Document) -> None:
        self.entry = entry
        self.document = document
        self.transition: Transition | None = None

    @property
    def token(self) -> str:
        claim = self.document.task.claim
        return "" if claim is None else claim.token


class Running:
    """The attempt under way, as the watching threads see it."""

    __slots__ = ("begun", "context", "deadline", "held", "interrupted_at", "interruption", "started")

    def __init__(self, held: Held, context: Context, timeout: float | None) -> None:
        self.held = held
        self.context = context
        self.started = time.time()
        self.begun = time.monotonic()
        self.deadline = NEVER if timeout is None else self.begun + timeout
        self.interruption: type[Interrupted] | None = None
        self.interrupted_at = NEVER


class Lane(execution.Window):
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
        alarm: "Alarm",
        lease_seconds: float,
        grace_seconds: float,
        recovery: Recovery,
    ) -> None:
        super().__init__()
        self.number = number
        self.waiting: deque[Held] = deque()
        self.running: Running | None = None
        self.ended: deque[Held] = deque()
        self.again: deque[Entry] = deque()
        self.fetched = 0.0
        self.renewed = 0.0
        self.thread = threading.main_thread()
        self._batch: Sequence[Entry] = ()
        self._store = store
        self._registry = registry
        self._presence = presence
        self._report = report
        self._queues = queues
        self._stopping = stopping
        self._alarm = alarm
        self._lease = lease_seconds
        self._grace = grace_seconds
        self._recovery = recovery
        self._pace = BATCH_SECONDS
        self._plenty = True
        self._tokens = (f"{presence.consumer.rpartition(':')[2]}-{number}-{count:x}" for count in itertools.count(1))
        self._partitions = deque(range(store.partitions))
        self._partitions.rotate(-number)
        self._closing = threading.Lock()

    def holding(self) -> list[Entry]:
        """The entries whose leases are this lane's to keep."""
        return [*self._batch, *self.again]

    # --- the loop ------------------------------------------------------------------------------

    def work(self) -> None:
        """Until the runner stops."""
        self.thread = threading.current_thread()
        while not self._stopping.is_set():
            try:
                self._cycle()
            except SandboxError as error:
                self._pick_up_after(error)
                self._stopping.wait(PAUSE_SECONDS)

    def _pick_up_after(self, error: SandboxError) -> None:
        """A batch was cut short: what its entries stand for must be read again."""
        if isinstance(error, StoreUnavailable):
            log.warning("%s; trying again", error, extra={"once": "store"})
            self._recovery.lost_contact()
        else:
            log.error("a batch was cut short", exc_info=error, extra={"once": "lane"})
        _drain(self.waiting)
        self.settle_ended()
        self.again.extend(self._batch)
        self._batch = ()

    def _cycle(self) -> None:
        found = self._recovery.findings() or self._find()
        self._batch = [finding.entry for finding in found]
        self.fetched = self.renewed = time.monotonic()
        alone = [finding for finding in found if _has_crashed(finding)]
        together = [finding for finding in found if not _has_crashed(finding)] if alone else found
        for batch in (together, *([finding] for finding in alone)):
            if batch:
                self._work_off(batch)
        self._batch = ()

    def _find(self) -> list[Finding]:
        """Fresh entries; waits a moment if there are none."""
        if self.again:
            return self._judge_again()
        count = min(LARGEST_BATCH, max(1, int(BATCH_SECONDS / self._pace)))
        entries = self._fetch(count) or self._wait(count)
        return triage.judge_all(entries, self._registry)

    def _fetch(self, count: int) -> list[Entry]:
        """In one round trip, but it cannot wait; so not right after a time when there was less than asked for."""
        if not self._plenty:
            return []
        for _ in range(len(self._partitions)):
            if entries := self._store.fetch(self._partitions[0], self._queues, self._presence.consumer, count):
                self._plenty = len(entries) == count or len(self._partitions) > 1
                return entries
            self._partitions.rotate(-1)
        return []

    def _wait(self, count: int) -> list[Entry]:
        seconds = WAIT_SECONDS if len(self._partitions) == 1 else WAIT_SECONDS / 20
        entries = self._store.wait(self._partitions[0], self._queues, self._presence.consumer, count, seconds)
        self._plenty = len(entries) in (0, count) or len(self._partitions) > 1
        return entries

    def _judge_again(self) -> list[Finding]:
        """Entries that may point at something else by now, or be somebody else's."""
        entries = list(self.again)
        still_ours = [entry for entry in entries if self._renewed(entry)]
        texts = self._store.texts([entry.uid for entry in still_ours])
        found = [
            entry._replace(text=text, owner=self._presence.consumer)
            for entry, text in zip(still_ours, texts, strict=True)
        ]
        for _ in entries:
            self.again.popleft()
        return triage.judge_all(found, self._registry, NO_REMAINS)

    def _renewed(self, entry: Entry) -> bool:
        return entry in self._store.renew(entry.partition, self._presence.consumer, [entry])

    def _work_off(self, findings: Sequence[Finding]) -> None:
        self.waiting.extend(self._claim(findings))
        begun, count = time.perf_counter(), 0
        while self.waiting and not self._stopping.is_set():
            try:
                held = self.waiting.popleft()
            except IndexError:
                break  # the upkeep thread was quicker
            self._run(held)
            count += 1
        if count:
            self._presence.clear(self.number)
            self._pace = (self._pace + 3 * (time.perf_counter() - begun) / count) / 4
        self.settle_ended()
        self.hand_back_waiting()

    # --- claim ---------------------------------------------------------------------------------

    def _claim(self, findings: Sequence[Finding]) -> list[Held]:
        """Takes what may run, and clears away the rest."""
        changes: list[Change] = []
        others: list[Finding] = []
        for finding in findings:
            entry, document, verdict = finding
            if document is None or verdict not in triage.CLAIMS:
                others.append(finding)
                continue
            claim = Claim(self._presence.consumer, next(self._tokens), entry.stream, entry.id)
            after = tasks.claimed(document.task, claim, crashed=verdict is Verdict.CLAIM_AFTER_CRASH)
            changes.append(Change(document.text, document.task, after, entry))
        if others:
            self._clear_away(others)
        if not changes:
            return []
        texts = self._store.move(changes, consumer=self._presence.consumer)
        held = []
        for change, text in zip(changes, texts, strict=True):
            if text is not None and change.entry is not None:
                held.append(Held(change.entry, Document(change.after, text)))
            elif change.entry is not None:
                self.again.append(change.entry)  # somebody changed it since: look again
        return held

    def _clear_away(self, findings: Iterable[Finding]) -> None:
        now = time.time()
        for entry, document, verdict in findings:
            if document is None or verdict is Verdict.DROP:
                self.again.extend(self._store.drop(self._presence.consumer, [entry]))
                continue
            task = document.task
            if verdict is Verdict.POSTPONE:
                log.warning("type %s, or a field, is unknown here: handed back", task.type, extra={"once": task.type})
                after = tasks.postponed(task, tasks.stamp(now + POSTPONE_SECONDS))
            elif verdict is Verdict.FAIL_BY_TIMEOUT:
                after = execution.time_out(now, task.timeout or 0.0, task)
            else:
                after = execution.crash(task, now)
            [text] = self._store.move([Change(document.text, task, after, entry)])
            if text is None:
                self.again.append(entry)
            elif verdict is not Verdict.POSTPONE:
                self._report.outcomes([after])

    # --- run -----------------------------------------------------------------------------------

    def _run(self, held: Held) -> None:
        if time.monotonic() - self.renewed > self._lease / 2 and not self._still_ours(held):
            return
        task = held.document.task
        task_type = self._registry.get(task.type)
        assert task_type is not None  # triage has seen to it
        context = Context(task)
        running = Running(held, context, task.timeout)
        self._presence.mark(self.number, held.token.encode(), running.deadline)
        if task.timeout is not None:
            self._alarm.set(self.number, running.deadline + HARD_SECONDS + ALARM_SECONDS)
        self.running = running
        held.transition = execution.run(task_type, context, task, self)
        self.running = None
        if task.timeout is not None:
            self._alarm.set(self.number, NEVER)
        self.ended.append(held)

    def _still_ours(self, held: Held) -> bool:
        """After a long pause (a stopped process, a busy machine) somebody may have taken over."""
        return self._renewed(held.entry) and self._store.texts([held.entry.uid]) == [held.document.text]

    # --- interrupt -----------------------------------------------------------------------------

    def interrupt(self, running: Running, reason: type[Interrupted]) -> None:
        """Ends the attempt from another thread; once."""
        with self._closing:
            if self.running is not running or not self.open or running.interruption is not None:
                return
            running.interruption = reason
            running.interrupted_at = time.monotonic()
            running.context.cancelled = True
            if self.thread is threading.main_thread():
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)
            else:
                _raise_in(self.thread, reason)

    def raise_interruption(self) -> None:
        """What the signal does in the main thread. It may arrive late: it is for the attempt that it names only."""
        running = self.running
        if self.open and running is not None and running.interruption is not None and not running.context.told:
            running.context.told = True
            raise running.interruption

    def close(self) -> None:
        if self.thread is not threading.main_thread():
            with self._closing:
                _raise_in(self.thread, None)

    # --- settle --------------------------------------------------------------------------------

    def settle_ended(self) -> None:
        """Writes down how attempts ended. Not answered means not known: tries until Redis answers."""
        held = _drain(self.ended)
        while held:
            try:
                held = self._settle(held)
            except StoreUnavailable as error:
                self._recovery.lost_contact()
                log.warning("%s; %d outcomes wait for it", error, len(held), extra={"once": "store"})
                if self._stopping.seconds() > self._grace:
                    log.error("%s; %d outcomes are lost, and their tasks will run again", error, len(held))
                    return
                time.sleep(PAUSE_SECONDS)

    def _settle(self, ended: Sequence[Held]) -> list[Held]:
        """One round; answers those to be tried again, against the document as it is now."""
        changes = [
            Change(document.text, document.task, transition(document.task), held.entry)
            for held in ended
            if (transition := held.transition) is not None and (document := held.document)
        ]
        texts = self._store.move(changes) if changes else []
        self._report.outcomes([change.after for change, text in zip(changes, texts, strict=True) if text is not None])
        refused = {
            change.entry: tasks.encode(change.after)
            for change, text in zip(changes, texts, strict=True)
            if text is None
        }
        return [
            held
            for held in ended
            if (held.transition is None or held.entry in refused) and self._look_again(held, refused.get(held.entry))
        ]

    def _look_again(self, held: Held, wanted: bytes | None) -> bool:
        """A refused settlement proves nothing: what does the document say? True if it is still ours."""
        entry = held.entry
        [text] = self._store.texts([entry.uid])
        if text is not None and text == wanted:
            self._report.outcomes([tasks.decode(text)])  # it was stored, only the answer was lost
            return False
        task = None if text is None else tasks.decode(text)
        if task is not None and text is not None and task.claim is not None:
            if task.claim.token != held.token:
                return False  # another claim's token: it is lost, and nothing more is touched
            held.document = Document(task, text)
            held.transition = held.transition or partial(tasks.handed_back, ran=True)  # it was not cancelled after all
            return True
        self.again.append(entry._replace(text=text))
        return False

    def hand_back_waiting(self) -> None:
        """What has not started goes to the front of its queue, for anybody."""
        changes = [
            Change(held.document.text, held.document.task, tasks.handed_back(held.document.task, ran=False), held.entry)
            for held in _drain(self.waiting)
        ]
        if changes:
            self._store.move(changes)

    def relieve(self) -> None:
        """Another thread's help, while a long task holds up the lane."""
        self.settle_ended()
        self.hand_back_waiting()


def _has_crashed(finding: Finding) -> bool:
    return finding.document is not None and finding.document.task.crashes > 0


def _drain(items: deque[Held]) -> list[Held]:
    drained = []
    while True:
        try:
            drained.append(items.popleft())
        except IndexError:
            return drained


def _raise_in(thread: threading.Thread, reason: type[Interrupted] | None) -> None:
    """Raises an exception in a thread as soon as it runs Python code; None takes it back."""
    ident = ctypes.c_ulong(thread.ident or 0)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(reason) if reason else None)


class Alarm:
    """The last resort against a handler that holds the interpreter: the kernel's own timer.

    Its signal has no Python handler. It writes every thread's stack and ends the process, even in
    the middle of a C call; the neighbours see the death, and whose time was over.
    """

    def __init__(self) -> None:
        self._deadlines: dict[int, float] = {}
        self._lock = threading.Lock()

    def set(self, lane: int, deadline: float) -> None:
        with self._lock:
            self._deadlines[lane] = deadline
            earliest = min(self._deadlines.values())
            left = 0.0 if earliest == NEVER else max(0.001, earliest - time.monotonic())
            signal.setitimer(signal.ITIMER_REAL, left)
