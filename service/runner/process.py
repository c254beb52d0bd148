"""A runner: lanes that execute tasks, and the threads that watch over them.

On HUP it tries whether the task types load from the code that is on the disk now. If they do, it stops, and the
supervisor starts another in its place; if not, it says why, and goes on with the code that it has.

The order of stopping, on TERM, INT or such a HUP:
1. the lanes take nothing new, and what has not started goes back to the front of its queue;
2. what runs may finish, for the grace time;
3. what still runs is interrupted, and goes back too, uncharged;
4. what cannot be interrupted ends with the process, two seconds later;
5. the runner leaves: its consumer is forgotten, its lock file removed.
"""

import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import FrameType, TracebackType
from typing import Final

from service.errors import SandboxError, Stopping, TimedOut, WrongRedis
from service.observe.metrics import Metrics
from service.observe.sentry import NO_ERRORS, Errors
from service.runner import outcomes
from service.runner.alarm import Alarm
from service.runner.journal import Report
from service.runner.lane import HARD_SECONDS, Lane, Running
from service.runner.lockfile import Presence
from service.runner.outcomes import Transition
from service.runner.recovery import Recovery
from service.runner.stop import Stop
from service.runner.upkeep import Upkeep
from service.store import Change, Entry, Store
from service.tasks import transitions
from service.tasks.registry import Registry

TICK_SECONDS: Final = 0.05
START_SECONDS: Final = 3.0
LAST_WORDS_SECONDS: Final = 3.0
LAST_REPORT_SECONDS: Final = 1.0
EXIT_REPLACE_ME: Final = 70

log = logging.getLogger("sandbox.runner")


class Runner:
    def __init__(
        self,
        *,
        store: Store,
        registry: Registry,
        report: Report,
        folder: Path,
        queues: Sequence[str],
        threads: int,
        lease_seconds: float,
        grace_seconds: float,
        retention_seconds: float,
        rehearse: Callable[[Callable[[], bool]], object],
        metrics: Metrics | None = None,
        errors: Errors = NO_ERRORS,
    ) -> None:
        self._store = store
        self._queues = queues
        self._grace = grace_seconds
        self._errors = errors
        self._stopping = Stop()
        self._rehearse = rehearse
        self._reload_wanted = False
        self._presence = Presence(folder, threads)
        self._recovery = Recovery(
            store=store,
            registry=registry,
            presence=self._presence,
            queues=queues,
            lease_seconds=lease_seconds,
            held=self._held,
            errors=errors,
        )
        self._alarm = Alarm()
        self._lanes = [
            Lane(
                number,
                store=store,
                registry=registry,
                presence=self._presence,
                report=report,
                queues=queues,
                stopping=self._stopping,
                alarm=self._alarm,
                lease_seconds=lease_seconds,
                grace_seconds=grace_seconds,
                recovery=self._recovery,
                errors=errors,
            )
            for number in range(threads)
        ]
        self._upkeep = Upkeep(
            lanes=self._lanes,
            store=store,
            presence=self._presence,
            queues=queues,
            stopping=self._stopping,
            recovery=self._recovery,
            lease_seconds=lease_seconds,
            retention_seconds=retention_seconds,
            metrics=metrics,
        )

    def run(self) -> int:
        self._listen_to_signals()
        self._wait_for_redis()
        log.info("runner %s serves %s", self._presence.consumer, ", ".join(self._queues))
        threading.Thread(target=self._watch, name="watch", daemon=True).start()
        reload = threading.Thread(target=self._reload, name="reload", daemon=True)
        reload.start()
        self._upkeep.start()
        others = [threading.Thread(target=lane.work, name=f"lane-{lane.number}") for lane in self._lanes[1:]]
        for thread in others:
            thread.start()
        self._lanes[0].work()
        for thread in (*others, reload):
            thread.join()
        self._upkeep.end()
        self._leave()
        return 0

    def _wait_for_redis(self) -> None:
        """Nothing is run before it is known to be the right one. As a rule it starts at the same time as this process:
        only if it takes longer, the log tells.
        """
        quiet_until = time.monotonic() + START_SECONDS
        while not self._stopping.is_set():
            try:
                self._store.check()
                return self._store.claim()
            except WrongRedis:
                raise
            except SandboxError as error:
                if time.monotonic() > quiet_until:
                    log.warning("%s; trying again", error, extra={"once": "store"})
                time.sleep(TICK_SECONDS)
        return None

    def _listen_to_signals(self) -> None:
        def stop(signum: int, frame: FrameType | None) -> None:
            self._stopping.request()

        def interrupt(signum: int, frame: FrameType | None) -> None:
            self._lanes[0].raise_interruption()

        def reload(signum: int, frame: FrameType | None) -> None:
            self._reload_wanted = True

        for signum in (signal.SIGTERM, signal.SIGINT):
            signal.signal(signum, stop)
        signal.signal(signal.SIGHUP, reload)
        signal.signal(signal.SIGUSR1, interrupt)
        self._alarm.arm(self._presence.stacks)

    def _held(self) -> list[Entry]:
        return [entry for lane in self._lanes for entry in lane.holdings.entries()]

    def _leave(self) -> None:
        try:
            partitions = range(self._store.partitions)
            forgotten = [
                self._store.queues.retire(number, self._queues, self._presence.consumer) for number in partitions
            ]
            if not all(forgotten):
                log.warning("something is left; another runner will take it, and forget this one")
                self._presence.tell()
                return  # the lock file stays, and tells it to
        except SandboxError as error:
            log.warning("%s; another runner will forget this one", error)
            self._presence.tell()
            return
        self._presence.leave()
        log.info("runner %s has stopped", self._presence.consumer)

    # --- HUP: the code that is on the disk now -----------------------------------------------------

    def _reload(self) -> None:
        while not self._stopping.is_set():
            time.sleep(TICK_SECONDS)
            if self._reload_wanted:
                self._reload_wanted = False
                self._stop_if_replaceable()

    def _stop_if_replaceable(self) -> None:
        try:
            self._rehearse(self._stopping.is_set)
        except SandboxError as error:
            if not self._stopping.is_set():
                log.error("HUP is not obeyed, and this runner goes on with the code that it has: %s", error)
            return
        log.info("HUP: this runner stops, to be replaced by one with the code that is on the disk now")
        self._stopping.request()

    # --- the watch: time-outs, and the end of the grace time ---------------------------------------

    def _watch(self) -> None:
        while True:
            time.sleep(TICK_SECONDS)
            for lane in self._lanes:
                if (running := lane.running) is not None:
                    try:
                        self._watch_over(lane, running)
                    except Exception as error:
                        log.error("the watch failed", exc_info=error, extra={"once": "watch"})

    def _watch_over(self, lane: Lane, running: Running) -> None:
        now = time.monotonic()
        if now >= running.deadline:
            lane.interrupt(running, TimedOut)
        elif self._stopping.is_set() and self._stopping.seconds() >= self._grace:
            lane.interrupt(running, Stopping)
        if now >= running.interrupted_at + HARD_SECONDS and lane.running is running:
            self._replace_process(lane, running)

    def _replace_process(self, lane: Lane, running: Running) -> None:
        """A handler that swallows its interruption is ended with its process; the supervisor starts another."""
        self._stopping.request()
        self._presence.tell()
        for other in self._lanes:
            if other is not lane:
                self._presence.clear(other.number)
        frame = sys._current_frames()[lane.thread.ident or 0]
        event_id = self._report(running, frame) if running.interruption is TimedOut else None
        log.error(
            "%s of type %s does not end; replacing the process. It is at:\n%s",
            running.held.entry.uid,
            running.context.type,
            "".join(traceback.format_stack(frame)),
            extra={"fields": {"event_id": event_id}},
        )
        self._alarm.disarm()
        last_words = threading.Thread(target=self._say_last_words, args=(running, event_id), daemon=True)
        last_words.start()
        last_words.join(LAST_WORDS_SECONDS)
        os._exit(0 if running.interruption is Stopping else EXIT_REPLACE_ME)

    def _report(self, stuck: Running, frame: FrameType) -> str | None:
        error = TimedOut("the attempt does not end, long after its timeout; its process is replaced")
        return self._errors.capture(
            error.with_traceback(_traceback(frame)), tags=outcomes.about(stuck.held.document.task)
        )

    def _say_last_words(self, stuck: Running, event_id: str | None) -> None:
        """Settles what has ended and what is stuck; hands back everything else. What fails here, neighbours find."""
        for lane in self._lanes:
            lane.holdings.settle_ended()
            lane.holdings.hand_back_waiting()
            if (running := lane.running) is not None and (
                transition := self._fate(running, stuck, event_id)
            ) is not None:
                document = running.held.document
                self._store.move([Change(document.text, document.task, transition(document.task), running.held.entry)])
            self._presence.clear(lane.number)
        self._errors.flush(LAST_REPORT_SECONDS)

    def _fate(self, running: Running, stuck: Running, event_id: str | None) -> Transition | None:
        if running is not stuck or running.interruption is Stopping:
            return partial(transitions.handed_back, ran=True)
        if running.interruption is TimedOut:
            return partial(outcomes.time_out, running.started, time.monotonic() - running.begun, event_id=event_id)
        return None  # cancelled: its document says so already


def _traceback(frame: FrameType | None) -> TracebackType | None:
    """Where a thread is, in the form in which an exception says where it came from."""
    found = None
    while frame is not None:
        found = TracebackType(found, frame, frame.f_lasti, frame.f_lineno)
        frame = frame.f_back
    return found
