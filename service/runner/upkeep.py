"""What a runner does beside its lanes, in a thread that no handler blocks.

Hands back what waits behind a long task, renews leases, publishes since when a task runs and how far
it is, sees that a task was cancelled, queues what is due, and sweeps up after expired documents and lost hosts.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from service.errors import Cancelled, StoreUnavailable
from service.observe import log_file
from service.observe.metrics import Metrics
from service.runner.holdings import Held
from service.runner.lane import Lane, Running
from service.runner.lockfile import Presence
from service.runner.recovery import Recovery
from service.runner.stop import Stop
from service.store import Change, Document, Entry, Store
from service.tasks import moments, transitions
from service.tasks.document import decode_or_none

TICK_SECONDS: Final = 0.05
LONG_SECONDS: Final = 0.08
PUBLISH_SECONDS: Final = 0.4
PROMOTE_SECONDS: Final = 0.4
PROMOTE_BATCH: Final = 500
MANY: Final = 8  # of the largest documents: fewer is all that was due
SWEEP_SECONDS: Final = 1.0
SWEEP_BATCH: Final = 1000
SLICE_SECONDS: Final = 0.1
MEASURE_SECONDS: Final = 5.0
FORGET_SECONDS: Final = 60.0
FORGOTTEN_AFTER_SECONDS: Final = 86_400.0

log = logging.getLogger("sandbox.runner")


class Duty:
    """Something to be done every so often; again at the next tick, if it says that there is more of it."""

    def __init__(self, every_seconds: float, do: Callable[[], bool | None]) -> None:
        self._every = every_seconds
        self._do = do
        self._next = 0.0

    def do_if_due(self, now: float) -> None:
        if now >= self._next:
            self._next = now + self._every
            if self._do():
                self._next = now


class Upkeep:
    def __init__(
        self,
        *,
        lanes: Sequence[Lane],
        store: Store,
        presence: Presence,
        queues: Sequence[str],
        stopping: Stop,
        recovery: Recovery,
        lease_seconds: float,
        retention_seconds: float,
        metrics: Metrics | None = None,
    ) -> None:
        self._lanes = lanes
        self._store = store
        self._presence = presence
        self._queues = queues
        self._stopping = stopping
        self._recovery = recovery
        self._lease = lease_seconds
        self._retention = retention_seconds
        self._metrics = metrics or Metrics()
        self._sweep_places: list[dict[str, int]] = [{} for _ in range(store.partitions)]
        self._sweeping = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="upkeep", daemon=True)
        self._duties = [
            Duty(0.0, presence.beat),
            Duty(0.0, self._relieve),
            Duty(lease_seconds / 3, self._renew),
            Duty(lease_seconds / 3, self._vouch),
            Duty(PUBLISH_SECONDS, self._publish),
            Duty(PROMOTE_SECONDS, self._promote),
            Duty(SWEEP_SECONDS, self._sweep),
            Duty(log_file.LOOK_SECONDS, log_file.look),
            Duty(FORGET_SECONDS, self._forget),
        ]
        if self._metrics.wanted:
            self._duties.append(Duty(MEASURE_SECONDS / 5, self._measure))

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._over.set()
        self._thread.join(timeout=3)

    def _work(self) -> None:
        while not self._over.wait(TICK_SECONDS):
            for duty in self._duties:
                try:
                    duty.do_if_due(time.monotonic())
                except StoreUnavailable as error:
                    self._recovery.lost_contact()
                    log.warning("%s; trying again", error, extra={"once": "store"})
                except Exception as error:
                    log.error("upkeep failed", exc_info=error, extra={"once": "upkeep"})

    def _relieve(self) -> None:
        """No task sits behind a long one, and no outcome waits for its end."""
        for lane in self._lanes:
            late = time.monotonic() - lane.fetched > LONG_SECONDS
            if late and lane.running is not None and lane.holdings.ended:
                lane.holdings.settle_ended()
            if lane.holdings.waiting and (late or self._stopping.is_set()):
                lane.holdings.hand_back_waiting()

    def _renew(self) -> None:
        for lane in self._lanes:
            running, now, entries = lane.running, time.monotonic(), lane.holdings.entries()
            by_partition: dict[int, list[Entry]] = {}
            for entry in entries:
                by_partition.setdefault(entry.partition, []).append(entry)
            renewed: set[Entry] = set()
            for partition, members in by_partition.items():
                renewed |= self._store.queues.renew(partition, self._presence.consumer, members)
            if entries and renewed.issuperset(entries):
                lane.renewed = now
            if running is not None and running.held.entry in entries and running.held.entry not in renewed:
                running.interrupt(Cancelled)  # somebody else has it

    def _vouch(self) -> None:
        """Renews leases for neighbours that live, but cannot do it themselves."""
        for consumer in self._presence.held_up_neighbours():
            for partition in range(self._store.partitions):
                self._store.queues.vouch(partition, self._queues, consumer, idle_ms=int(self._lease * 600))

    def _publish(self) -> None:
        """Running tasks: since when, how far; and is it still ours?"""
        runs = [
            running
            for lane in self._lanes
            if (running := lane.running) is not None and time.monotonic() - running.begun > LONG_SECONDS
        ]
        texts = self._store.texts([running.held.entry.uid for running in runs]) if runs else []
        for running, text in zip(runs, texts, strict=True):
            if not self._is_ours(running.held, text):
                running.interrupt(Cancelled)
            else:
                self._tell_news(running)

    def _is_ours(self, held: Held, text: bytes | None) -> bool:
        if text == held.document.text:
            return True
        task = decode_or_none(text)
        if task is None or text is None or task.claim is None or task.claim.token != held.token:
            return False
        held.document = Document(task, text)
        return True

    def _tell_news(self, running: Running) -> None:
        """What cannot be stored now is told the next time."""
        task, text = running.held.document
        after, news = task, running.context.news
        if task.started_at is None:
            after = transitions.started(after, moments.stamp(running.started))
        if news is not None and news is not running.published:
            after = transitions.progressed(after, news)
        if after is task:
            return
        change = Change(text, task, after, running.held.entry)
        for _, document in self._store.move([change], consumer=self._presence.consumer).stored:
            running.held.document = document
            running.published = news

    def _promote(self) -> bool:
        """In slices: a million that are due at once must not hold up the leases."""
        until = time.monotonic() + SLICE_SECONDS
        while self._promote_some() >= MANY:
            if time.monotonic() >= until:
                return True
        return False

    def _promote_some(self) -> int:
        return sum(self._store.promote(partition, PROMOTE_BATCH) for partition in range(self._store.partitions))

    def _forget(self) -> None:
        """What is left of hosts that never came back, or came back under another name."""
        self._presence.clear_away(older_than_seconds=FORGOTTEN_AFTER_SECONDS)
        for partition in range(self._store.partitions):
            self._store.queues.retire_silent(partition, self._queues, idle_ms=int(FORGOTTEN_AFTER_SECONDS * 1000))

    def _measure(self) -> None:
        """The queues; one runner of all with the same prefix does it, each few seconds."""
        if self._store.is_my_turn(0, f"measure:{self._metrics.prefix}", int(MEASURE_SECONDS * 900)):
            self._metrics.backlog(self._store.backlog(self._queues))

    def _sweep(self) -> bool:
        """One runner of all begins with it, each second."""
        created_before = int((time.time() - self._retention) * 1_000_000)
        until = time.monotonic() + SLICE_SECONDS
        more = False
        for partition, places in enumerate(self._sweep_places):
            if not self._sweeping and not self._store.is_my_turn(partition, "sweep", int(SWEEP_SECONDS * 900)):
                continue
            removed = 1
            while removed and time.monotonic() < until:
                removed = self._store.index.sweep(
                    partition, created_before=created_before, count=SWEEP_BATCH, places=places
                )
            more = more or bool(removed)
        self._sweeping = more
        return more
