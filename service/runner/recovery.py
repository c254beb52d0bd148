"""Takes over what others hold and do not work on: the dead, the held up, the silent; and one's own lost answers.

Twice a second a lane looks for these, in the queues that it serves, and runs what it finds like fresh entries:

- A neighbour whose lock is free is dead. Its entries are taken at once, and it is forgotten after the last.
- What a neighbour has claimed and not started, while a handler holds it up, is taken, too (neighbours.py).
- An entry whose lease has run out belonged to a host that is gone. That counts only after one lease of
  unbroken contact with Redis: idle times go on while Redis is away, and everybody would rob everybody.
  They go by the wall clock of Redis's host: when that was set, or this host slept, contact begins anew.
- After a lost answer, this runner's own consumer may hold entries of which no lane knows. Nobody renews
  them: it looks for them at once, and at the latest their lease runs out.
"""

import contextlib
import logging
import threading
import time
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

from service.errors import StoreUnavailable
from service.observe.sentry import NO_ERRORS, Errors
from service.runner import outcomes, triage
from service.runner.lockfile import HELD_UP_SECONDS, Presence, Remains
from service.runner.neighbours import Neighbours
from service.runner.triage import Finding, Verdict
from service.runner.upkeep import Upkeep
from service.store import Entry, Store, document, in_each, to_each
from service.tasks.document import Claim, Task
from service.tasks.registry import Registry

LOOK_SECONDS: Final = 0.5
BATCH: Final = 64
UNHEARD_MS: Final = 2500  # longer than any answer may take
UNHEARD_SECONDS: Final = 10.0
TELL_SECONDS: Final = 0.5
STEP_SECONDS: Final = 1.0
FORGET_SECONDS: Final = 60.0
FORGOTTEN_AFTER_SECONDS: Final = 86_400.0
MOST_REMEMBERED: Final = 64
NO_REMAINS: Final = Remains("", Path(), {})

log = logging.getLogger("sandbox.runner")


class Recovery:
    def __init__(
        self,
        *,
        store: Store,
        registry: Registry,
        presence: Presence,
        queues: Sequence[str],
        lease_seconds: float,
        held: Callable[[], Collection[Entry]],
        neighbours: Neighbours,
        errors: Errors = NO_ERRORS,
        all_queues: Sequence[str] = (),
    ) -> None:
        """`all_queues` are those that any runner of the installation serves; this one serves `queues`."""
        self._store = store
        self._registry = registry
        self._presence = presence
        self._queues = queues
        self._all_queues = all_queues or queues
        self._turn = f"look-{zlib.crc32(','.join(queues).encode()):08x}"
        self._lease = lease_seconds
        self._held = held
        self._neighbours = neighbours
        self._errors = errors
        self._lock = threading.Lock()
        self._next_look = 0.0
        self._contact_since = time.monotonic()
        self._clocks_apart: dict[int, float] = {}  # by the first of each group: it may be on a host of its own
        self._unheard_until = 0.0
        self._silent_turn = 0
        self._own = NO_REMAINS._replace(consumer=presence.consumer)
        self._remembered: dict[str, Remains] = {}

    def register(self, upkeep: Upkeep) -> None:
        upkeep.every(FORGET_SECONDS, self.forget_lost_hosts)

    def lost_contact(self) -> None:
        now = time.monotonic()
        self._contact_since = now
        self._unheard_until = now + UNHEARD_SECONDS

    def findings(self) -> list[Finding]:
        """What there is to take over, judged; at most twice a second, by one lane at a time."""
        if time.monotonic() < self._next_look or not self._lock.acquire(blocking=False):
            return []
        begun = time.monotonic()
        try:
            self._next_look = begun + LOOK_SECONDS
            found = self._of_neighbours() or self._of_the_silent() or self._unheard()
            if found:
                self._next_look = 0.0  # there may be more
            return found
        except StoreUnavailable:
            self._next_look = time.monotonic() + max(LOOK_SECONDS, time.monotonic() - begun)  # others have their turn
            raise
        finally:
            self._lock.release()

    def _of_neighbours(self) -> list[Finding]:
        """One runner of the host looks for all that serve the same queues."""
        if not self._presence.is_turn(self._turn, LOOK_SECONDS):
            return []
        found = self._of_the_dead() or self._of_the_held_up()
        if found:
            self._presence.pass_turn(self._turn)
        return found

    def _of_the_dead(self) -> list[Finding]:
        for found in in_each(self._presence.dead_neighbours(), self._of_one_dead):
            if found:
                return found
        for remains in self._presence.left_by_earlier_boots():
            self._forget(remains)
        return []

    def _of_one_dead(self, remains: Remains) -> list[Finding]:
        self._remember(remains)
        if remains.stacks:
            log.error(
                "%s was ended by its alarm, at:\n%s",
                remains.consumer,
                remains.stacks,
                extra={"once": remains.consumer, "fields": {"event_id": None}},
            )
        for entries in self._take(dead=remains.consumer, idle_ms=0):
            found = self._judge(entries, remains)
            log.warning("%s is dead: took over %d of its tasks%s", remains.consumer, len(entries), _blamed(found))
            return self._reported(found, remains)
        self._forget(remains)
        return []

    def _forget(self, remains: Remains) -> None:
        """Not while it holds something of another queue: whoever serves that takes it, and must see what it was at."""
        queues, consumer = self._all_queues, remains.consumer
        if all(self._store.queues.retire(partition, queues, consumer) for partition in self._partitions):
            with contextlib.suppress(FileNotFoundError):  # another neighbour was quicker, and reports it
                remains.path.unlink()
                self._report_idle(remains)

    def _of_the_held_up(self) -> list[Finding]:
        """What it has not started. It may wake up at any moment: then it starts nothing of this (lane.py, `_run`).
        What it began before that goes back to it.
        """
        for found in in_each(self._presence.held_up_neighbours(), self._of_one_held_up):
            if found:
                return found
        return []

    def _of_one_held_up(self, neighbour: Remains) -> list[Finding]:
        self._neighbours.vouch_if_due(neighbour)
        for entries in self._take(dead=neighbour.consumer, idle_ms=int(HELD_UP_SECONDS * 1000)):
            now = self._presence.remains(neighbour.consumer) or neighbour
            self._remember(now)
            begun = [entry for entry in entries if (claim := _claim(entry)) and now.blames(claim.token)]
            self._store.queues.give_back(neighbour.consumer, begun)
            unstarted = [entry for entry in entries if entry not in begun]
            if unstarted:
                log.warning("%s is held up: took over %d of its tasks", neighbour.consumer, len(unstarted))
            return self._reported(self._judge(unstarted, now), now)
        return []

    def forget_lost_hosts(self) -> None:
        """What is left of hosts that never came back, or came back under another name."""
        self._presence.clear_away(older_than_seconds=FORGOTTEN_AFTER_SECONDS)
        to_each(self._partitions, self._forget_the_silent)

    def _forget_the_silent(self, partition: int) -> None:
        self._store.queues.retire_silent(partition, self._queues, idle_ms=int(FORGOTTEN_AFTER_SECONDS * 1000))

    def _of_the_silent(self) -> list[Finding]:
        """In one group of partitions each time: a lease is long."""
        self._silent_turn += 1
        group = self._store.groups[self._silent_turn % len(self._store.groups)]
        self._look_at_the_clocks(group[0])
        if time.monotonic() - self._contact_since < self._lease:
            return []
        for entries in self._take(idle_ms=int(self._lease * 1000), groups=[group]):
            own = [entry for entry in entries if entry.owner == self._presence.consumer]
            others = [entry for entry in entries if entry.owner != self._presence.consumer]
            if others:
                log.warning("the lease of %d tasks has run out: took them over", len(others))
            lost: list[Finding] = []
            for entry in others:
                remains = self._presence.remains(entry.owner)
                lost += self._reported(self._judge([entry], remains), remains or NO_REMAINS)
            return lost + self.judge_own(own)
        return []

    def _look_at_the_clocks(self, partition: int) -> None:
        """The monotonic one stands still while this machine sleeps."""
        before, apart = self._clocks_apart.get(partition), self._store.queues.clock(partition) - time.monotonic()
        self._clocks_apart[partition] = apart
        if before is not None and abs(apart - before) > STEP_SECONDS:
            self.lost_contact()

    def _reported(self, findings: list[Finding], remains: Remains) -> list[Finding]:
        """Only the next runner can report a crash. It may die of the same task, so it reports before it goes on."""
        told = [
            finding._replace(event_id=self._report(finding.document.task, finding.verdict, remains))
            if finding.verdict in triage.CRASHES and finding.document is not None
            else finding
            for finding in findings
        ]
        if any(finding.event_id for finding in told):
            self._errors.flush(TELL_SECONDS)
        return told

    def _report(self, task: Task, verdict: Verdict, remains: Remains) -> str | None:
        overdue = verdict is Verdict.FAIL_BY_TIMEOUT
        return self._errors.capture_message(
            "a runner was ended by its alarm: a task held it past its timeout"
            if overdue
            else "a runner died at a task",
            tags=outcomes.tags(task) | {"crashes": task.crashes + (not overdue)},
            extra={"stacks": remains.stacks} if remains.stacks else {},
        )

    def _report_idle(self, remains: Remains) -> None:
        """Only if it ran no task: a crash at a task is reported with the task."""
        if not remains.deadlines and not remains.told:
            self._errors.capture_message("a runner died between tasks", tags={"runner": remains.consumer})

    def _unheard(self) -> list[Finding]:
        if time.monotonic() > self._unheard_until:
            return []
        for entries in self._take(dead=self._presence.consumer, idle_ms=UNHEARD_MS):
            return self.judge_own(entries)
        return []

    # --- verdicts ----------------------------------------------------------------------------------

    def judge_own(self, entries: Iterable[Entry]) -> list[Finding]:
        """Of entries that this runner holds, and does not execute."""
        return self._judge(entries, self._own)

    def _judge(self, entries: Iterable[Entry], owner: Remains | None) -> list[Finding]:
        """By what the runner was doing that the claim names. That is not the owner, where the owner took over the entry
        and did not come to claim it: then the verdict stays what it was.
        """
        return [
            finding
            for entry in entries
            for finding in triage.judge_all([entry], self._registry, self._claimant(entry, owner))
        ]

    def _claimant(self, entry: Entry, owner: Remains | None) -> Remains | None:
        claim = _claim(entry)
        if claim is None or (owner is not None and claim.consumer == owner.consumer):
            return owner
        return self._presence.remains(claim.consumer) or self._remembered.get(claim.consumer)

    def _remember(self, remains: Remains) -> None:
        """Its file may be gone when its claims are judged again."""
        self._remembered[remains.consumer] = remains
        if len(self._remembered) > MOST_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]

    def _take(
        self, *, dead: str = "", idle_ms: int, groups: Sequence[Sequence[int]] | None = None
    ) -> Iterator[list[Entry]]:
        """Yields what it has taken, but for what a lane of this runner works on."""

        def take(group: Sequence[int]) -> list[Entry]:
            return self._store.queues.take_any(
                group[0], self._queues, self._presence.consumer, dead=dead, idle_ms=idle_ms, count=BATCH
            )

        for entries in in_each(self._store.groups if groups is None else groups, take):
            known = {(entry.stream, entry.id) for entry in self._held()} if entries else ()
            if entries := [entry for entry in entries if (entry.stream, entry.id) not in known]:
                yield entries

    @property
    def _partitions(self) -> range:
        return range(self._store.partitions)


def _claim(entry: Entry) -> Claim | None:
    found = document(entry.uid, entry.text)
    return found.task.claim if found else None


def _blamed(findings: Iterable[Finding]) -> str:
    """Those that it died at."""
    tasks = [found.document.task for found in findings if found.verdict in triage.CRASHES and found.document]
    return "; it died at " + ", ".join(f"{task.type} {task.uid}" for task in tasks) if tasks else ""
