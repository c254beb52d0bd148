"""Ends attempts that have run for too long: at their timeout, and at the end of the grace time.

Each tick is also a sign of life for the neighbours: this process gets the interpreter. If a handler holds it, the
kernel nudges the main thread (alarm.py), and `let_others_work` gives the other threads a turn.

An attempt is interrupted first. A handler that does not end then is abandoned, and its process is replaced: nothing new
starts in it, the other lanes finish what they run, for the grace time at most, and then the process ends. The
supervisor starts another one. At the end the process says its last words: it writes down what has ended and what is
stuck, and hands back everything else.
"""

import logging
import os
import sys
import threading
import time
import traceback
from _thread import get_ident
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from types import FrameType, TracebackType
from typing import Final

from service.errors import SandboxError, Stopping, TimedOut
from service.observe import scrubber
from service.observe.sentry import NO_ERRORS, Errors
from service.runner import outcomes, programs
from service.runner.alarm import Alarm
from service.runner.lane import HARD_SECONDS, Lane, Running
from service.runner.lockfile import Presence
from service.runner.outcomes import Transition
from service.runner.stop import Stop
from service.store import Store, Tally

TICK_SECONDS: Final = 0.05
NUDGE_SECONDS: Final = 0.5
TURN_SECONDS: Final = 0.02
LATE_SECONDS: Final = 0.5
LAST_WORDS_SECONDS: Final = 3.0
LAST_REPORT_SECONDS: Final = 1.0
NO_THREAD: Final = "no thread of Python's (gevent.monkey has replaced them)"
EXIT_REPLACE_ME: Final = 70

log = logging.getLogger("sandbox.runner")


class Watchdog:
    def __init__(
        self,
        *,
        lanes: Sequence[Lane],
        store: Store,
        presence: Presence,
        stopping: Stop,
        alarm: Alarm,
        tally: Tally,
        grace_seconds: float,
        errors: Errors = NO_ERRORS,
    ) -> None:
        self._lanes = lanes
        self._store = store
        self._presence = presence
        self._stopping = stopping
        self._alarm = alarm
        self._tally = tally
        self._grace = grace_seconds
        self._errors = errors
        self._ticked = time.monotonic()
        self._abandoned: dict[Running, str | None] = {}  # with the ids of their error reports

    def start(self) -> None:
        self._alarm.nudge_after(NUDGE_SECONDS)
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def _watch(self) -> None:
        while True:
            time.sleep(TICK_SECONDS)
            self._ticked = time.monotonic()
            self._presence.beat()
            self._alarm.nudge_after(NUDGE_SECONDS)
            for lane in self._lanes:
                if (running := lane.running) is not None and running not in self._abandoned:
                    try:
                        self._watch_over(lane, running)
                    except Exception as error:
                        log.error("the watchdog failed", exc_info=error, extra={"once": "watchdog"})
            if self._abandoned and (self._have_others_finished() or self._seconds_left() < 0):
                self._end_process()

    def let_others_work(self) -> None:
        """Called in the main thread, at a nudge."""
        if time.monotonic() - self._ticked > NUDGE_SECONDS:
            time.sleep(TURN_SECONDS)

    def _watch_over(self, lane: Lane, running: Running) -> None:
        now = time.monotonic()
        if now >= running.deadline:
            running.interrupt(TimedOut)
        elif self._stopping.is_set() and self._stopping.seconds() >= self._grace:
            running.interrupt(Stopping)
        patience = HARD_SECONDS + running.window.spare_seconds
        if now >= running.window.interrupted_at + patience and lane.running is running:
            self._abandon(lane, running)

    def _abandon(self, lane: Lane, stuck: Running) -> None:
        """The other lanes go on, and neighbours look after them as before, until the process ends."""
        self._stopping.request()
        frame = None if stuck.window.thread == get_ident() else sys._current_frames()[stuck.window.thread]
        event_id = self._report(stuck, frame) if stuck.window.reason is TimedOut else None
        log.error(
            "%s of type %s does not end; replacing the process. It is at:\n%s",
            stuck.held.entry.uid,
            stuck.context.type,
            "".join(traceback.format_stack(frame)) if frame else NO_THREAD,
            extra={"fields": {"event_id": event_id}},
        )
        self._alarm.set(lane.number, time.monotonic() + self._seconds_left() + LAST_WORDS_SECONDS)
        self._abandoned[stuck] = event_id

    def _have_others_finished(self) -> bool:
        return all(lane.is_over or lane.running in self._abandoned for lane in self._lanes)

    def _seconds_left(self) -> float:
        return self._grace + HARD_SECONDS + LATE_SECONDS - self._stopping.seconds()

    def _end_process(self) -> None:
        """What still runs in other lanes is not to blame, though it may not have ended when it was told to."""
        self._alarm.disarm()
        self._presence.tell()
        for lane in self._lanes:
            if lane.running not in self._abandoned or lane.running.window.reason is Stopping:
                self._presence.clear(lane.number)
        is_stop = all(stuck.window.reason is Stopping for stuck in self._abandoned)
        try:
            programs.end_all()
            last_words = threading.Thread(target=self._say_last_words, daemon=True)
            last_words.start()
            last_words.join(LAST_WORDS_SECONDS)
        finally:  # handlers may have left no room for a thread
            os._exit(0 if is_stop else EXIT_REPLACE_ME)

    def _report(self, stuck: Running, frame: FrameType | None) -> str | None:
        """With the handler's variables, but for what is secret in its thread."""
        error = TimedOut("the attempt does not end, long after its timeout; its process is replaced")
        own = scrubber.secrets.set(stuck.context.secrets)
        try:
            return self._errors.capture(
                error.with_traceback(_traceback(frame)), tags=outcomes.tags(stuck.held.document.task)
            )
        finally:
            scrubber.secrets.reset(own)

    def _say_last_words(self) -> None:
        """What fails here is found by the neighbours."""
        for lane in self._lanes:
            if (running := lane.running) is not None:
                held = running.held
                held.transition, held.lines = self._fate(running), running.context.lines
                lane.holdings.ended.append(held)
            lane.holdings.settle_ended()
            lane.holdings.hand_back_waiting()
            self._presence.clear(lane.number)
        with suppress(SandboxError):  # some counts may be missing in the history
            self._store.history.add_once(self._tally)
        self._errors.flush(LAST_REPORT_SECONDS)

    def _fate(self, running: Running) -> Transition:
        if running in self._abandoned and running.window.reason is TimedOut:
            duration = time.monotonic() - running.begun
            return partial(outcomes.time_out, running.started, duration, event_id=self._abandoned[running])
        return outcomes.hand_back


def _traceback(frame: FrameType | None) -> TracebackType | None:
    """Where a thread is, in the form in which an exception says where it came from."""
    found = None
    while frame is not None:
        found = TracebackType(found, frame, frame.f_lasti, frame.f_lineno)
        frame = frame.f_back
    return found
